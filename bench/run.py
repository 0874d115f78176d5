"""Benches by name: ``run.py path``. Each prints a table and writes a dated record under bench/record/."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cluster
import huge
import psycopg
import sql
from psycopg import conninfo
from shapes import mixed, shape, stages

from sluice_dev import cache, children
from sluice_dev.postgres import Server, find
from sluice_dev.stack import Sluice

Bench = tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]
RECORDS = Path(__file__).parent / "record"
SHOP = cache.ROOT / "examples" / "shop"
APP = {"user": "shop_app", "password": "app-pw"}
SUPPORT = {"user": "support_ro", "password": "support-pw"}
LOOKUP = "SELECT id, email, ssn FROM users WHERE id = %d"


@dataclass(frozen=True)
class Way:
    """One way to the database."""

    name: str
    dsn: str


@contextlib.contextmanager
def pgbouncer(server: Server) -> Generator[str]:
    """Run pgbouncer in session mode before the shop; yield the DSN of shop_app through it."""
    program = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        raise SystemExit("pgbouncer is not installed; `make bench` as root installs it")
    with tempfile.TemporaryDirectory(prefix="sluice-bouncer-") as name:
        folder, port = Path(name), children.free_port()
        (folder / "users").write_text(
            "".join(f'"{u["user"]}" "{u["password"]}"\n' for u in (APP, SUPPORT))
        )
        (folder / "bouncer.ini").write_text(
            f"[databases]\nshop = host={server.host} port={server.port} dbname=shop\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = scram-sha-256\n"
            f"auth_file = {folder / 'users'}\npool_mode = session\nunix_socket_dir =\nlogfile =\n"
        )
        user = children.unprivileged_user()
        if user:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, user)
        log = folder / "log"
        process = children.start(
            [program, folder / "bouncer.ini"], log=log, user=user, directory=Path("/")
        )
        try:
            dsn = conninfo.make_conninfo(
                "", host="127.0.0.1", port=port, dbname="shop", sslmode="disable", **APP
            )
            for _ in range(100):
                with contextlib.suppress(psycopg.OperationalError):
                    psycopg.connect(dsn).close()
                    break
                time.sleep(0.05)
            else:
                raise SystemExit(f"pgbouncer does not answer: {log.read_text()[-1000:]}")
            yield dsn
        finally:
            children.stop(process, signal.SIGINT)


def _timed(connection: psycopg.Connection[Any], statement: str) -> float:
    """Return the microseconds of one simple Query, spoken by libpq without more Python than needed."""
    begun = time.perf_counter_ns()
    result = connection.pgconn.exec_(statement.encode())
    took = time.perf_counter_ns() - begun
    if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
        raise SystemExit(f"{statement}: {result.error_message.decode()}")
    return took / 1000


def cached(
    ways: list[Way], statement: Callable[[int], str], *, rounds: int, each: int
) -> dict[str, float]:
    """Return the median over rounds of each way's median, in microseconds; the ways take turns in every round."""
    medians: dict[str, list[float]] = {way.name: [] for way in ways}
    with contextlib.ExitStack() as stack:
        connections = {
            way.name: stack.enter_context(psycopg.connect(way.dsn, autocommit=True)) for way in ways
        }
        for connection in connections.values():
            for number in range(200):
                _timed(connection, statement(number + 1))
        for turn in range(rounds):
            order = ways[turn % len(ways) :] + ways[: turn % len(ways)]
            for way in order:
                times = [
                    _timed(connections[way.name], statement(n % 20000 + 1)) for n in range(each)
                ]
                medians[way.name].append(statistics.median(times))
    return {name: statistics.median(values) for name, values in medians.items()}


def first_time(
    ways: list[Way], *, shapes: int, make: Callable[[int], str] = shape
) -> dict[str, dict[str, float]]:
    """Return p50, p95 and p99 of statements whose shape was never seen, in microseconds; the ways take turns."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    with contextlib.ExitStack() as stack:
        connections = {
            way.name: stack.enter_context(psycopg.connect(way.dsn, autocommit=True)) for way in ways
        }
        for connection in connections.values():
            _timed(connection, LOOKUP % 1)
        for number in range(shapes):
            for way in ways:
                text = make(number)
                times[way.name].append(_timed(connections[way.name], text))
    return {name: _percentiles(values) for name, values in times.items()}


def _percentiles(values: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": statistics.median(values), "p95": cuts[94], "p99": cuts[98]}


@contextlib.contextmanager
def _shop() -> Generator[tuple[Server, Sluice]]:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-")))
        policies = work / "policies"
        # Without the guardrails shop_app's session is open: nothing is looked at but the template.
        shutil.copytree(SHOP, policies, ignore=shutil.ignore_patterns("*.sql", "guardrails.yaml"))
        server = stack.enter_context(Server(find()))
        server.create_database("shop", SHOP / "schema.sql")
        sluice = Sluice(server, dbname="shop", policies=policies, namespace="shop")
        yield server, stack.enter_context(sluice)


def _mix(server: Server, sluice: Sluice) -> tuple[dict[str, dict[str, float]], ...]:
    """Return the times of the mix, and how they are split by stage."""
    before = sluice.health("/metrics")[1]
    times = first_time(
        [
            Way("direct", server.dsn(dbname="shop", sslmode="disable", **APP)),
            Way("sluice restricted", sluice.dsn(**SUPPORT)),
        ],
        shapes=1_001,
        make=mixed,
    )
    return times, stages(before, sluice.health("/metrics")[1])


def path() -> dict[str, Any]:
    """Measure the way of one statement."""
    with sql.on_one_processor([]), _shop() as (server, sluice):
        alone, alone_split = _mix(server, sluice)
    with contextlib.ExitStack() as stack:
        server, sluice = stack.enter_context(_shop())
        idle = sluice.resident_bytes()
        ways = [
            Way("direct", server.dsn(dbname="shop", sslmode="disable", **APP)),
            Way("pgbouncer", stack.enter_context(pgbouncer(server))),
            Way("sluice open", sluice.dsn(**APP)),
            Way("sluice restricted", sluice.dsn(**SUPPORT)),
        ]
        first_time([ways[0], ways[3]], shapes=2)
        before = sluice.health("/metrics")[1]
        new_shapes = first_time([ways[0], ways[3]], shapes=401)
        split = stages(before, sluice.health("/metrics")[1])
        new_shapes["sluice open"] = first_time([ways[0], ways[2]], shapes=200)["sluice open"]
        mix, mix_split = _mix(server, sluice)
        results = {
            "first_time_us": new_shapes,
            "first_time_restricted_stages_us": split,
            "first_time_mix_us": mix,
            "first_time_mix_restricted_stages_us": mix_split,
            "first_time_mix_one_processor_us": alone,
            "first_time_mix_one_processor_restricted_stages_us": alone_split,
            "select_1_us": cached(ways, lambda _: "SELECT 1", rounds=8, each=1000),
            "lookup_us": cached(ways, lambda number: LOOKUP % number, rounds=8, each=1000),
        }
        loaded = sluice.resident_bytes()
        version = server.installation.major
    return {
        "postgresql": version,
        "results": results,
        "resident_mib": {
            "idle": {name: round(value / 2**20, 1) for name, value in idle.items()},
            "after": {name: round(value / 2**20, 1) for name, value in loaded.items()},
        },
    }


def report(found: dict[str, Any]) -> None:
    """Print the numbers for people."""
    results = found["results"]
    for title, key in (
        ("shape", "first_time"),
        ("shape of the mix", "first_time_mix"),
        ("the mix, on one processor", "first_time_mix_one_processor"),
    ):
        print(f"{title + ', first time (µs)':<39}p50       p95       p99")
        split = results[key.removesuffix("_us") + "_restricted_stages_us"]
        for prefix, rows in (("", results[key + "_us"]), ("  stage ", split)):
            for name, values in rows.items():
                numbers = "".join(f"{values[cut]:>10.0f}" for cut in ("p50", "p95", "p99"))
                print(f"  {prefix + name:<30}{numbers}")
    for key, title in (("select_1_us", "SELECT 1"), ("lookup_us", "look-up by primary key")):
        base = results[key]["direct"]
        bouncer = results[key]["pgbouncer"] - base
        print(f"{title}, cached (µs)           p50     added   ÷ pgbouncer")
        for name, value in results[key].items():
            ratio = f"{(value - base) / bouncer:.2f}" if name != "direct" and bouncer > 0 else ""
            print(f"  {name:<30} {value:>10.1f} {value - base:>9.1f} {ratio:>10}")
    for when, values in found["resident_mib"].items():
        print(
            f"resident memory, {when}: "
            + ", ".join(f"{name} {size} MiB" for name, size in values.items())
        )


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=cache.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "opa": cache.opa_version(),
        "revision": revision.stdout.strip(),
    }


def main() -> int:
    """Return the exit code."""
    benches: dict[str, Bench] = {
        "path": (path, report),
        "operator": (cluster.operator, cluster.report),
        "sql": (sql.measure, sql.report),
        "huge": (huge.measure, huge.report),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bench", choices=sorted(benches))
    options = parser.parse_args()
    measure, show = benches[options.bench]
    on = machine()
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": on,
        **measure(),
    }
    show(found)
    RECORDS.mkdir(exist_ok=True)
    record = RECORDS / f"{datetime.now(UTC):%Y%m%d}-{options.bench}.json"
    record.write_text(json.dumps(found, indent=2) + "\n")
    print(f"written to {record.relative_to(cache.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
