"""Smoke decisions in a real OPA."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_operator.controller.opa import LocalOpa, OpaError, find_opa
from sluice_operator.controller.smoke import Smoke, smoke_modules
from sluice_policy import Profile, judge, load_directory
from sluice_policy.compiler import compile_document

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
