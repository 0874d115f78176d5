"""Bundles: deterministic, in OPA's own signed form; the real OPA takes them and refuses what was touched."""

import base64
import gzip
import io
import json
import subprocess
import tarfile
from datetime import UTC, datetime, timedelta, timezone

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_policy import Compiled, Profile, SigningKey, bundle, compile_profile
from sluice_policy.compiler import canonical

ISSUED = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
KEY = SigningKey.generate()
PROFILE = Profile("support", "desk", {"team": "support"})


@pytest.fixture
def compiled(classification, policy):
    return compile_profile([classification(), policy()], PROFILE)


def packed(compiled, key=KEY, **change):
    options = {
        "sequence": 12,
        "issued_at": ISSUED,
        "profile_id": PROFILE.id,
        "max_policy_age_s": 86400,
        "key": key,
    }
    return bundle(compiled, **{**options, **change})


def files_of(data):
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return {m.name: archive.extractfile(m).read() for m in archive.getmembers()}


def repacked(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def verified(opa, tmp_path, data, key=KEY, key_id=None):
    """What the real OPA says of a bundle: None when it takes it."""
    (tmp_path / "in.tar.gz").write_bytes(data)
    (tmp_path / "key.pem").write_text(key.public_pem)
    done = subprocess.run(
        [opa, "build", "--bundle", tmp_path / "in.tar.gz", "--output", tmp_path / "out.tar.gz",
         "--verification-key", tmp_path / "key.pem", "--signing-alg", "ES256",
         "--verification-key-id", key_id or key.key_id],
        capture_output=True, text=True,
    )  # fmt: skip
    return None if done.returncode == 0 else done.stdout + done.stderr


def test_opa_takes_the_signed_bundle(opa, tmp_path, compiled):
    assert verified(opa, tmp_path, packed(compiled)) is None


def test_opa_decides_on_the_bundle(opa, tmp_path, compiled):
    path = tmp_path / "b.tar.gz"
    path.write_bytes(packed(compiled))
    # A server names the bundle `sluice`; eval names it by its path.
    manifest = files_of(packed(compiled))[".manifest"].decode()
    bundles = f'{{"sluice": {{"manifest": {manifest}}}}}'
    identity = {
        "workload": {"namespace": "support", "service_account": "desk", "pod": None,
                     "labels": {"team": "support"}, "assurance": "asserted"},
        "actor": None,
    }  # fmt: skip
    question = {
        "contract": 1,
        "identity": identity,
        "session": {"database": "shop/shop", "role": "app"},
        "clock": {"now_ns": 1795426200_000000000, "trusted": True},
    }
    done = subprocess.run(
        [opa, "eval", "--bundle", path, "--stdin-input", "--format=json",
         f"x := data.sluice.session.decision with data.system.bundles as {bundles}"],
        input=json.dumps(question), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)["result"][0]["bindings"]["x"]
    assert answer["revision"] == compiled.revision
    assert answer["sequence"] == 12
    assert answer["policies"] == ["shop/support"]
    assert answer["level"] == "restricted"
    assert answer["masks"]["pii.email"] == {"kind": "redact"}


@pytest.mark.parametrize("name", ["data.json", ".manifest", "sluice/session.rego"])
def test_opa_refuses_a_changed_file(opa, tmp_path, compiled, name):
    files = files_of(packed(compiled))
    changes = {
        "data.json": (b'"mode":"enforce"', b'"mode":"audit"'),
        ".manifest": (b'"sequence":12', b'"sequence":13'),
        "sluice/session.rego": (b"\n", b" \n"),
    }
    before, after = changes[name]
    assert before in files[name]
    files[name] = files[name].replace(before, after, 1)
    assert "digest mismatch" in verified(opa, tmp_path, repacked(files))


def test_opa_refuses_every_flipped_bit_of_the_signature(opa, tmp_path, compiled):
    files = files_of(packed(compiled))
    (token,) = json.loads(files[".signatures.json"])["signatures"]
    head, payload, signature = token.split(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    raw[7] ^= 1
    forged = base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("=")
    files[".signatures.json"] = canonical({"signatures": [f"{head}.{payload}.{forged}"]})
    assert verified(opa, tmp_path, repacked(files)) is not None


@pytest.mark.parametrize("name", ["data.json", ".manifest", "sluice/session.rego"])
def test_opa_refuses_a_missing_file(opa, tmp_path, compiled, name):
    files = files_of(packed(compiled))
    del files[name]
    assert verified(opa, tmp_path, repacked(files)) is not None


def test_opa_refuses_an_added_file(opa, tmp_path, compiled):
    files = files_of(packed(compiled))
    files["sluice/zzz.rego"] = b"package sluice.zzz\n"
    assert verified(opa, tmp_path, repacked(files)) is not None


def test_opa_refuses_an_unsigned_bundle(opa, tmp_path, compiled):
    files = files_of(packed(compiled))
    del files[".signatures.json"]
    assert verified(opa, tmp_path, repacked(files)) is not None


def test_opa_refuses_another_key(opa, tmp_path, compiled):
    other = SigningKey.generate()
    assert verified(opa, tmp_path, packed(compiled), key=other, key_id=KEY.key_id) is not None
    assert verified(opa, tmp_path, packed(compiled, key=other)) is not None


def test_opa_refuses_an_hmac_with_the_public_key(opa, tmp_path, compiled):
    files = files_of(packed(compiled))
    (token,) = json.loads(files[".signatures.json"])["signatures"]
    payload = jwt.decode(token, options={"verify_signature": False})
    secret = base64.b64encode(KEY.public_pem.encode()).decode()
    forged = jwt.encode(payload, secret, algorithm="HS256", headers={"kid": KEY.key_id})
    files[".signatures.json"] = canonical({"signatures": [forged]})
    assert verified(opa, tmp_path, repacked(files)) is not None


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**60), 2**60)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=("Cs",))),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_opa_hashes_any_data_as_we_do(opa, tmp_path, value):
    strange = Compiled((), canonical({"sluice_data": {"x": value}}), "r", {})
    assert verified(opa, tmp_path, packed(strange)) is None


def test_strings_that_go_and_python_escape_differently_are_hashed_alike(opa, tmp_path):
    text = "".join(map(chr, range(0x20))) + '\x7f\u2028\u2029<>&"\\/\U0001f600\ufffe'
    strange = Compiled((), canonical({"sluice_data": {text: text}}), "r", {})
    assert verified(opa, tmp_path, packed(strange)) is None


def test_bundle_is_the_same_every_time_but_for_the_signature(compiled):
    one, two = files_of(packed(compiled)), files_of(packed(compiled))
    assert list(one) == list(two) == sorted(one)
    del one[".signatures.json"], two[".signatures.json"]
    assert one == two
    data = packed(compiled)
    assert data[4:8] == b"\0\0\0\0", "gzip carries no time"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        for member in archive.getmembers():
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


def test_manifest_says_what_it_is_for(compiled):
    manifest = json.loads(files_of(packed(compiled))[".manifest"])
    assert manifest == {
        "revision": compiled.revision,
        "roots": ["sluice", "sluice_data"],
        "metadata": {
            "contract": 1,
            "profile": PROFILE.id,
            "sequence": 12,
            "issued_at": "2026-11-23T09:30:00.000Z",
            "max_policy_age_s": 86400,
        },
    }


def test_signing_again_keeps_the_revision(compiled):
    later = packed(compiled, sequence=13, issued_at=ISSUED + timedelta(hours=6))
    assert json.loads(files_of(later)[".manifest"])["revision"] == compiled.revision


def test_signature_lists_every_file_and_names_its_key(compiled):
    files = files_of(packed(compiled))
    (token,) = json.loads(files[".signatures.json"])["signatures"]
    payload = jwt.decode(token, KEY.public_pem, algorithms=["ES256"])
    assert {f["name"] for f in payload["files"]} == set(files) - {".signatures.json"}
    assert jwt.get_unverified_header(token)["kid"] == KEY.key_id
    assert set(payload) == {"files"}


def test_times_are_given_in_utc(compiled):
    local = ISSUED.astimezone(timezone(timedelta(hours=2)))
    assert (
        files_of(packed(compiled, issued_at=local))[".manifest"]
        == files_of(packed(compiled))[".manifest"]
    )
    with pytest.raises(ValueError, match="time zone"):
        packed(compiled, issued_at=datetime(2026, 1, 1))  # noqa: DTZ001


def test_sequences_count_from_one(compiled):
    with pytest.raises(ValueError, match="from 1"):
        packed(compiled, sequence=0)


def test_key_is_read_back():
    assert SigningKey.load(KEY.private_pem()).key_id == KEY.key_id
    assert "PRIVATE" not in repr(KEY)
    assert "PRIVATE" not in str(KEY)


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not a key",
        KEY.public_pem,
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(rsa.generate_private_key(65537, 2048)),
    ],
)
def test_other_keys_are_refused_without_showing_them(text):
    with pytest.raises(ValueError, match="key") as caught:
        SigningKey.load(text)
    assert caught.value.__cause__ is None
    assert len(str(caught.value)) < 80
