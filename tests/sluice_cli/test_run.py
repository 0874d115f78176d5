"""``sluice run`` as a program: a real OPA, a real PostgreSQL, signals, edits, breakage."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from sluice_cli.exits import Exit

RAW, REDACTED = "ann@example.com", "***"
EMAIL = "SELECT email FROM users WHERE id = 1"


def value(connection: psycopg.Connection, sql: str = EMAIL):
    return connection.execute(sql).fetchone()[0]


def until(connection: psycopg.Connection, wanted: object) -> float:
    began = time.monotonic()
    while time.monotonic() - began < 5:
        if value(connection) == wanted:
            return time.monotonic() - began
        time.sleep(0.005)
    raise AssertionError(f"{value(connection)!r} and not {wanted!r}")


def test_restricted_session_sees_masks_and_an_edit_within_a_second(start, database):
    with start(database) as running, running.connect() as client:
        assert running.ready.startswith("sluice: ready — listening on 127.0.0.1:")
        assert value(client) == REDACTED
        running.write(redact="email")
        assert until(client, "a***@example.com") < 1
        running.write()
        assert until(client, REDACTED) < 1
        code, text = running.get("/metrics")
        assert code == 200
        assert "sluice_bundle_sequence 3.0" in text
        assert "sluice_decision_seconds_count" in text


def test_broken_file_is_reported_with_its_line_and_the_last_good_set_stays(start, database):
    with start(database) as running, running.connect() as client:
        assert value(client) == REDACTED
        running.write(**{"effect: allow": "effect: alow"})
        problem = running.wait_event("policy problem")
        assert problem["file"].endswith("support.yaml")
        assert (problem["line"], problem["field"]) == (8, "spec.rules[0].effect")
        running.wait_event("policies not taken, the last good set stays in force")
        assert value(client) == REDACTED
        running.write(redact="email")
        assert until(client, "a***@example.com") < 1


def test_session_that_becomes_restricted_is_closed_with_a_hint(start, database):
    opened = start.policy.replace("class: pii.email, mask: redact", "class: '*', mask: none")
    with start(database, policy=opened) as running:
        with running.connect() as client:
            assert value(client) == RAW
            running.write()
            with pytest.raises(psycopg.errors.AdminShutdown) as refused:
                until(client, REDACTED)
            assert "Connect again" in refused.value.diag.message_hint
        with running.connect() as client:
            assert value(client) == REDACTED


def test_opa_killed_leaves_cached_plans_and_comes_back(start, database):
    with start(database) as running, running.connect() as client:
        assert value(client) == REDACTED
        opa = running.children()[0]
        opa.kill()
        assert value(client) == REDACTED
        assert value(client, "SELECT id FROM users WHERE email = ''::text OR id = 2") == 2
        assert running.get("/healthz")[0] == 200


def test_sigterm_drains_and_leaves_no_process(start, database):
    with start(database) as running:
        client = running.connect()
        assert value(client) == REDACTED
        children = running.children()
        assert children
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == Exit.OK
        assert not [child for child in children if child.is_running()]
        with pytest.raises(psycopg.OperationalError):
            value(client)
        client.close()


def test_opa_dies_with_a_killed_proxy(start, database):
    with start(database) as running:
        children = running.children()
        running.process.kill()
        running.process.wait()
        gone, alive = psutil.wait_procs(children, timeout=5)
        assert gone
        assert not alive


def test_doors_that_stay_shut(start, database):
    with start(database) as running:
        with pytest.raises(psycopg.OperationalError, match="is not classified"):
            running.connect(dbname="postgres")
        with pytest.raises(psycopg.OperationalError, match="standard_conforming_strings"):
            running.connect(options="-c standard_conforming_strings=off")
        with pytest.raises(psycopg.OperationalError, match="client_encoding"):
            running.connect(client_encoding="LATIN1")


def test_catalog_role_that_cannot_log_in_leaves_it_ready_and_refuses_restricted_sessions(
    start, database
):
    info = psycopg.conninfo.conninfo_to_dict(database) | {"user": "nobody_at_all"}
    with start(database, catalog_dsn=psycopg.conninfo.make_conninfo(**info)) as running:
        with pytest.raises(psycopg.OperationalError, match="cannot be governed now"):
            running.connect()
        code, text = running.get("/readyz")
        assert code == 200
        assert "could not be read" in json.loads(text)["degraded"]["catalog shop/shop"]
        assert info["password"] not in "".join(running.errors) + text


def fails(start: Any, tmp_path: Path, *more: str, environment=None) -> tuple[int, str]:
    policies = tmp_path / "given"
    if not policies.exists():
        policies.mkdir()
        text = start.classification(5432, "shop")
        (policies / "classification.yaml").write_text(text)
    command = start.command("--policies", str(policies), "--state", str(tmp_path / "s"), *more)
    if "--opa" not in more:
        command += ["--opa", str(start.opa)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | (environment or {}),
    )
    return done.returncode, done.stderr


def test_missing_opa_ends_with_its_code(start, tmp_path):
    code, errors = fails(start, tmp_path, "--opa", "/nowhere/opa")
    assert code == Exit.OPA
    assert "/nowhere/opa" in errors


def test_old_opa_ends_with_its_code(start, tmp_path):
    old = tmp_path / "opa"
    old.write_text("#!/bin/sh\necho 'Version: 1.20.0'\n")
    old.chmod(0o755)
    code, errors = fails(start, tmp_path, "--opa", str(old))
    assert code == Exit.OPA
    assert "too old" in errors


def test_broken_policies_end_with_their_code(start, tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.yaml").write_text(start.policy.replace("allow", "alow"))
    code, errors = fails(start, tmp_path)
    assert code == Exit.POLICIES
    assert "a.yaml:8" in errors


def test_address_in_use_ends_with_its_code(start, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, errors = fails(start, tmp_path, "--listen", address)
    assert code == Exit.ADDRESS
    assert address in errors


def test_spool_that_cannot_be_opened_ends_with_its_code(start, tmp_path):
    (tmp_path / "file").write_text("")
    code, errors = fails(
        start,
        tmp_path,
        "--listen",
        f"127.0.0.1:{start.free_port()}",
        "--spool",
        str(tmp_path / "file"),
    )
    assert code == Exit.SPOOL
    assert "spool" in errors


def test_mistyped_variable_is_a_usage_error(start, tmp_path):
    code, errors = fails(start, tmp_path, environment={"SLUICE_CATALOG_DNS": "x"})
    assert code == Exit.USAGE
    assert "did you mean SLUICE_CATALOG_DSN" in errors


def test_running_statement_ends_in_peace_while_it_drains(start, database):
    with start(database) as running, running.connect() as client:
        assert value(client) == REDACTED
        timer = threading.Timer(0.3, running.process.send_signal, [signal.SIGTERM])
        timer.start()
        try:
            assert value(client, "SELECT pg_sleep(1)::text || '.'") == "."
        finally:
            timer.join()
        assert running.process.wait(20) == Exit.OK


def test_signal_while_starting_ends_it_and_leaves_nothing(start, tmp_path):
    slow = tmp_path / "opa"
    slow.write_text(
        "#!/bin/sh\n[ \"$1\" = version ] && echo 'Version: 1.22.2' && exit\nexec sleep 60\n"
    )
    slow.chmod(0o755)
    policies = tmp_path / "given"
    policies.mkdir()
    (policies / "c.yaml").write_text(start.classification(5432, "shop"))
    command = start.command("--policies", str(policies), "--state", str(tmp_path / "s"))
    with subprocess.Popen(
        [*command, "--opa", str(slow)], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "OPA started" in line:
                break
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(20) == Exit.OK
        assert not [child for child in children if child.is_running()]


def test_second_signal_cuts_what_is_left(start, database):
    with start(database, drain_time="60s") as running:
        client = running.connect()
        timers = [
            threading.Timer(delay, running.process.send_signal, [signal.SIGINT])
            for delay in (0.3, 0.8)
        ]
        for timer in timers:
            timer.start()
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT pg_sleep(50)")
        assert running.process.wait(20) == Exit.OK
        assert time.monotonic() - began < 10
        for timer in timers:
            timer.join()
        client.close()
