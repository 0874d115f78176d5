"""Rules of the tree that no other tool watches."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from sluice_dev.cache import ROOT, opa, opa_version


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return listed.stdout.splitlines()


def test_nothing_importable_is_called_operator():
    assert [p for p in tracked() if re.search(r"(^|/)operator(\.py|/__init__\.py)$", p)] == []


def test_test_folders_are_no_packages():
    assert [p for p in tracked() if p.startswith("tests/") and p.endswith("__init__.py")] == []


def test_every_member_has_a_lower_bound_for_each_dependency():
    members = {
        path.parent.name: tomllib.loads(path.read_text()) for path in ROOT.glob("*/pyproject.toml")
    }
    open_ended = [
        f"{name}: {dependency}"
        for name, member in members.items()
        for dependency in member["project"]["dependencies"]
        if not dependency.startswith("sluice-") and ">=" not in dependency
    ]
    assert open_ended == []


def test_opa_is_the_pinned_version():
    said = subprocess.run([opa(), "version"], capture_output=True, text=True, check=True).stdout
    assert f"Version: {opa_version()}\n" in said


def test_make_describes_every_target():
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [target for target in targets if f"make {target} " not in shown] == []


def test_npm_lock_names_no_registry():
    assert '"resolved"' not in (ROOT / "tests" / "corpus" / "package-lock.json").read_text()
