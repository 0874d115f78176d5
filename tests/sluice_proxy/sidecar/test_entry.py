"""What the proxy container runs, as a process: `sluice-sidecar run` and its hook."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import aiohttp
import pytest

from sluice_proxy.sidecar.started import wait


@pytest.fixture
def pod(make_pod, database_dsn):
    return make_pod(database_dsn)


def sidecar_command(pod, command: str, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "sluice_proxy.sidecar",
        command,
        f"--root={pod.layout.root}",
        f"--health=127.0.0.1:{pod.health_port}",
        f"--bundle-port={pod.bundle_port}",
        *more,
    ]


def run_to_its_end(pod) -> subprocess.CompletedProcess[str]:
    (pod.layout.root / "dev").mkdir(exist_ok=True)
    return subprocess.run(
        sidecar_command(pod, "run"),
        env={"PATH": os.environ["PATH"], **pod.variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_certificate_and_token_for_opa_are_made_once_and_for_us_alone(pod):
    pod.prepare()
    written = {path.name: path.read_bytes() for path in pod.layout.run.iterdir()}
    assert {"ca.pem", "token", "server.pem"} == set(written)
    for name in ("token", "server.pem"):
        assert (pod.layout.run / name).stat().st_mode & 0o077 == 0
    pod.prepare()
    assert {path.name: path.read_bytes() for path in pod.layout.run.iterdir()} == written


def test_hook_ends_once_the_sidecar_was_ready_and_fails_at_its_limit(pod):
    assert wait(pod.layout.started, limit_s=0.1) == 1
    pod.layout.run.mkdir(parents=True, exist_ok=True)
    hook = subprocess.Popen(sidecar_command(pod, "started"))
    time.sleep(0.3)
    assert hook.poll() is None
    pod.layout.started.touch()
    assert hook.wait(10) == 0


def test_hook_imports_next_to_nothing():
    """It runs beside the start that it waits for, on the same processors."""
    code = (
        "import sys; from sluice_proxy.sidecar import __main__, started\n"
        "print(*sorted({'asyncio', 'argparse', 'ssl', 'json', 'aiohttp', 'structlog'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_missing_catalog_secret_ends_the_pod_with_its_name(pod):
    for path in pod.layout.place("/etc/sluice/catalog/0").iterdir():
        path.unlink()
    done = run_to_its_end(pod)
    assert done.returncode == 1
    message = pod.layout.termination.read_text()
    assert 'Secret "shop-catalog-reader" in namespace "support" is missing' in message
    assert "user, password, host, port" in message
    assert message in done.stderr
    assert not (pod.layout.run / "token").exists()


def test_catalog_secret_without_a_key_names_the_key(pod):
    (pod.layout.place("/etc/sluice/catalog/0") / "password").unlink()
    done = run_to_its_end(pod)
    assert done.returncode == 1
    assert "missing: password" in pod.layout.termination.read_text()


def test_wrong_environment_is_a_usage_error(pod):
    pod.variables["SLUICE_DATABASES"] = "?"
    done = run_to_its_end(pod)
    assert done.returncode == 2
    assert "SLUICE_DATABASES" in pod.layout.termination.read_text()


def as_in_a_pod(pod) -> list[str]:
    """The prefix of a command that may not change folders of others, as a pod's volumes are."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    for path in (pod.layout.run, pod.layout.state, pod.layout.spool):
        os.chown(path, 65534, 65534)
        path.chmod(0o777)
    lost = "-fowner,-chown,-dac_override"
    return ["setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}", "--"]


async def test_run_prints_audit_and_ends_orderly_by_sigterm(
    pod, operator, signed, making, database_dsn
):
    pod.variables["SLUICE_AUDIT_LOG"] = "stdout"
    prefix = as_in_a_pod(pod)
    operator.publish(signed(1, session=making.session(level="guarded")), 1)
    pod.start_opa()
    process = await asyncio.create_subprocess_exec(
        *prefix,
        *sidecar_command(pod, "run"),
        env={"PATH": os.environ["PATH"], **pod.variables},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            while not (await pod.health())["ready"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{pod.health_port}/metrics"
            async with http.get(url) as answer:
                assert "sluice_ready 1.0" in await answer.text()
        async with await pod.connect(database_dsn) as client:
            await client.execute("SELECT 'a secret literal'")
        process.send_signal(signal.SIGTERM)
        output, errors = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    lines = [json.loads(line) for line in errors.splitlines()]
    assert lines[-1]["event"] == "stopped"
    assert not [line for line in lines if line["level"] == "error"]
    records = [json.loads(line) for line in output.splitlines()]
    assert [record["kind"] for record in records] == ["open", "session", "begin", "end", "close"]
    assert all(record["audit"] is True for record in records)
    assert b"secret literal" not in output


def test_run_says_which_port_is_taken(pod):
    with socket.create_server(("127.0.0.1", pod.bundle_port)):
        done = run_to_its_end(pod)
    assert done.returncode == 1
    message = pod.layout.termination.read_text()
    assert "the bundle service cannot be opened" in message
    assert f"127.0.0.1', {pod.bundle_port}" in message
    assert message in done.stderr


async def test_run_that_is_ended_before_it_was_ready_says_what_it_waited_for(pod):
    """As a kubelet ends it when its hook has failed; nothing is published, and OPA is not there."""
    (pod.layout.root / "dev").mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *sidecar_command(pod, "run"), env={"PATH": os.environ["PATH"], **pod.variables},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(30):
        while "bundle" not in (await pod.health())["reasons"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 20) == 1
    message = pod.layout.termination.read_text()
    assert message.startswith("Ended before it was ready; it waited for: bundle: no bundle yet;")
    assert "OPA's socket is not there" in message


def test_process_is_not_dumpable():
    code = (
        "import ctypes, resource\n"
        "from sluice_proxy.sidecar.hardening import harden\n"
        "harden()\n"
        "print(ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]
