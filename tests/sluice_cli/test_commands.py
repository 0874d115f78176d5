"""The commands that end by themselves."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import jwt
import psycopg
import pytest

from sluice_cli import __main__ as program
from sluice_cli.exits import Exit
from sluice_proxy.bundles import verify_bundle

CLASSIFICATION = """\
apiVersion: sluice.dev/v1alpha1
kind: DataClassification
metadata: {name: shop, namespace: shop}
spec:
  database: {hosts: [shop-pg.shop.svc], name: shop}
  columns:
    - {table: public.users, column: email, class: pii.email}
"""
POLICY = """\
apiVersion: sluice.dev/v1alpha1
kind: DatabaseAccessPolicy
metadata: {name: support, namespace: shop}
spec:
  databases: {names: [shop]}
  rules:
    - {name: read, effect: allow, actions: [select]}
  masks:
    - {class: pii.email, mask: email}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "classification.yaml").write_text(CLASSIFICATION)
    (policies / "support.yaml").write_text(POLICY)
    return policies


def test_folder_in_order_is_valid(folder, capsys):
    assert program.main(["validate", str(folder)]) == Exit.OK
    assert "nothing wrong" in capsys.readouterr().out


def test_every_problem_of_every_file_is_printed_with_its_line(folder, capsys):
    (folder / "support.yaml").write_text(POLICY.replace("effect: allow", "effect: alow"))
    (folder / "broken.yaml").write_text("a: [1\nb: 2\n")
    (folder / "classification.yaml").write_text(CLASSIFICATION.replace("hosts:", "host:"))
    assert program.main(["validate", str(folder)]) == Exit.PROBLEMS
    out = capsys.readouterr().out
    for place in ("support.yaml:7:", "broken.yaml:", "classification.yaml:5:"):
        assert place in out


def test_empty_folder_is_a_problem(tmp_path, capsys):
    assert program.main(["validate", str(tmp_path)]) == Exit.PROBLEMS
    assert "no *.yaml" in capsys.readouterr().out


def test_missing_folder_is_a_usage_error(tmp_path, capsys):
    assert program.main(["validate", str(tmp_path / "nowhere")]) == Exit.USAGE
    assert "no folder" in capsys.readouterr().err


def test_compiled_bundle_is_one_that_a_sidecar_takes(folder, tmp_path):
    output = tmp_path / "bundle.tar.gz"
    command = ["compile", str(folder), "-o", str(output), "--sequence", "3", "--namespace", "shop"]
    assert program.main(command) == Exit.OK
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(output.read_bytes()))) as tar:
        assert ".manifest" in {name.lstrip("/") for name in tar.getnames()}

    with tarfile.open(output) as tar:
        member = next(one for one in tar if one.name.endswith(".manifest"))
        profile = json.load(tar.extractfile(member))["metadata"]["profile"]
    pem = Path(f"{output}.pem").read_text()
    key_id = _key_id(output)
    bundle = verify_bundle(output.read_bytes(), keys={key_id: pem}, profile=profile)
    assert bundle.sequence == 3


def _key_id(path: Path) -> str:
    with tarfile.open(path) as tar:
        member = next(one for one in tar if one.name.endswith(".signatures.json"))
        token = json.load(tar.extractfile(member))["signatures"][0]
    return jwt.get_unverified_header(token)["kid"]


def test_bundle_of_a_broken_folder_is_not_written(folder, tmp_path):
    (folder / "support.yaml").write_text(POLICY.replace("mask: email", "mask: emial"))
    output = tmp_path / "bundle.tar.gz"
    assert program.main(["compile", str(folder), "-o", str(output)]) == Exit.PROBLEMS
    assert not output.exists()


def test_malformed_label_is_a_usage_error(folder, capsys):
    assert program.main(["validate", str(folder), "--labels", "team"]) == Exit.USAGE
    assert "key=value" in capsys.readouterr().err


def test_hash_function_is_keyed_and_its_key_hidden(new_database, capsys):
    assert program.main(["sql", "hash"]) == Exit.OK
    sql = capsys.readouterr().out
    first, second = new_database(sql), new_database(sql)
    digests = []
    for dsn in (first, second):
        with psycopg.connect(dsn, autocommit=True) as owner:
            digest = owner.execute("SELECT sluice.hash('ann@x.com')").fetchone()[0]
            assert len(digest) == 64
            owner.execute(sql)  # Again: the key stays.
            assert owner.execute("SELECT sluice.hash('ann@x.com')").fetchone()[0] == digest
            owner.execute("CREATE TABLE t (v text)")
            owner.execute("CREATE INDEX ON t (sluice.hash(v))")
            digests.append(digest)
            owner.execute("DROP ROLE IF EXISTS hash_reader")
            owner.execute("CREATE ROLE hash_reader")
            owner.execute("SET ROLE hash_reader")
            assert owner.execute("SELECT sluice.hash('ann@x.com')").fetchone()[0] == digest
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.execute("SELECT * FROM sluice.hash_key")
            owner.execute("RESET ROLE")
            owner.execute("DROP ROLE hash_reader")
    assert digests[0] != digests[1]


def test_hash_is_hmac_sha_256(new_database, capsys):

    program.main(["sql", "hash"])
    with psycopg.connect(new_database(capsys.readouterr().out)) as owner:
        inner, digest = owner.execute(
            "SELECT inner_block, sluice.hash('é') FROM sluice.hash_key"
        ).fetchone()
    key = bytes(byte ^ 0x36 for byte in inner)
    assert hmac.new(key, "é".encode(), hashlib.sha256).hexdigest() == digest


def test_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "sluice_cli", "--help"], capture_output=True, text=True, check=True
    )
    for command in ("run", "validate", "compile", "sql", "audit"):
        assert command in done.stdout


def test_bug_has_an_exit_code_of_its_own(folder, monkeypatch, capsys):
    def broken(*_arguments, **_more):
        raise ZeroDivisionError

    monkeypatch.setattr("sluice_cli.bundle_commands.load", broken)
    assert program.main(["validate", str(folder)]) == Exit.INTERNAL
    assert "please report" in capsys.readouterr().err
