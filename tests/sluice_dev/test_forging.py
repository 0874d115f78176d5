"""What the stories forge is refused for what they forged, not for a slip of theirs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sluice_dev import forging
from sluice_policy import Compiled, SigningKey, bundle
from sluice_proxy.bundles.model import BundleRefusedError
from sluice_proxy.bundles.verify import verify_bundle

KEY = SigningKey.generate()
PROFILE = "shop/desk/0"


def _files() -> forging.Files:
    compiled = Compiled(
        problems=(),
        data=b'{"sluice_data":{"mask":"redact"}}', modules={"sluice/a.rego": b"package sluice"}, revision="a" * 64
    )  # fmt: skip
    return forging.unpacked(
        bundle(compiled, sequence=1, issued_at=datetime.now(UTC), profile_id=PROFILE, max_policy_age_s=60, key=KEY)
    )  # fmt: skip


def _judged(files: forging.Files) -> int:
    raw = forging.packed(files)
    return verify_bundle(raw, keys={KEY.key_id: KEY.public_pem}, profile=PROFILE).sequence


def test_what_is_packed_again_or_signed_again_by_the_right_key_is_taken():
    assert _judged(_files()) == 1
    assert _judged(forging.signed(_files(), KEY)) == 1
    assert forging.key_id_of(_files()) == KEY.key_id


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (forging.altered(_files()), "is not what was signed"),
        (forging.signed(_files(), SigningKey.generate()), "is not trusted here"),
        (forging.signed(_files(), SigningKey.generate(), key_id=KEY.key_id), "does not hold"),
        (forging.signed_by_public_key(_files(), KEY.key_id, KEY.public_pem), "does not hold"),
    ],
)
def test_each_forgery_is_refused_for_what_it_is(files: forging.Files, reason: str):
    with pytest.raises(BundleRefusedError, match=reason):
        _judged(files)
