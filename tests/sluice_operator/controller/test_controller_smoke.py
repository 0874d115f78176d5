"""Smoke decisions in a real OPA."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_operator.controller.opa import LocalOpa, OpaError, find_opa
from sluice_operator.controller.smoke import OLDEST, Smoke, smoke_modules
from sluice_policy import Profile, judge, load_directory
from sluice_policy.compiler import compile_document
from sluice_proxy.opa import VERSION_MIN

SHOP = Path(__file__).parents[3] / "examples" / "shop"
WEB = Profile("shop", "default", {"app": "web"})


@pytest.fixture
async def local(opa):
    one = LocalOpa(opa, smoke_modules())
    async with one.running():
        yield one


def document():
    judged = judge(load_directory(SHOP).resources)
    return judged.document(WEB, {"crm/crm": "gone."})


async def tried(local, content):
    return await Smoke(local).problem(compile_document(content), WEB, content)


async def test_good_content_passes(local):
    assert await tried(local, document()) is None


async def test_content_that_gives_no_decision_fails(local):
    broken = document()
    broken["databases"] = {name: dict(one) for name, one in broken["databases"].items()}
    broken["databases"]["shop/shop"].pop("columns")
    found = await tried(local, broken)
    assert "a session decision for shop/shop as shop_app that breaks the contract" in found
    # And the next one is not hurt by it.
    assert await tried(local, document()) is None


async def test_content_with_another_library_fails(local):
    compiled = compile_document(document())
    other = replace(compiled, modules={"a.rego": b"package sluice.a"})
    assert "another Rego library" in await Smoke(local).problem(other, WEB, document())


@pytest.fixture
def capabilities(opa):
    command = [opa, "capabilities", "--current"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


async def test_library_that_fails_only_on_the_oldest_opa_is_not_published(
    capabilities, local, tmp_path
):
    """Tried by the capabilities of an OPA that lacks one function which the library calls."""
    builtins = capabilities["builtins"]
    capabilities["builtins"] = [one for one in builtins if one["name"] != "time.clock"]
    assert len(capabilities["builtins"]) == len(builtins) - 1
    old = tmp_path / "old.json"
    old.write_text(json.dumps(capabilities))
    smoke, content = Smoke(local, oldest=str(old)), document()
    for _ in range(2):
        found = await smoke.problem(compile_document(content), WEB, content)
        assert "the oldest OPA that sidecars may run" in found
        assert "time.clock" in found


async def test_oldest_opa_is_the_one_that_sidecars_ask_for():
    assert ".".join(map(str, VERSION_MIN)) == OLDEST.removeprefix("v")


def _end_opa():
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    (pid,) = [
        int(one) for one in children if "sluice-opa-" in Path(f"/proc/{one}/cmdline").read_text()
    ]
    os.kill(pid, signal.SIGKILL)


async def test_opa_that_ended_is_started_anew(local):
    smoke = Smoke(local)
    _end_opa()
    content = document()
    with pytest.raises(OpaError):
        await smoke.problem(compile_document(content), WEB, content)
    for _ in range(300):
        try:
            assert await smoke.problem(compile_document(content), WEB, content) is None
            break
        except OpaError:
            await asyncio.sleep(0.1)
    else:
        pytest.fail("not started anew")


def test_missing_opa_is_told():
    with pytest.raises(OpaError, match="SLUICE_OPA"):
        find_opa("/nowhere/opa", {})
