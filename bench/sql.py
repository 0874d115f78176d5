"""What rewriting costs the server: the text that Sluice sends, beside the original, on one server in one run."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq
from sql_statements import STATEMENTS, Statement

from sluice_dev import cache
from sluice_dev.postgres import Server, environment_without_libpq, find
from sluice_dev.stack import Sluice

LEDGER = cache.ROOT / "bench" / "ledger"
DESK = {"user": "desk", "password": "desk-pw"}
SETTINGS = {
    "shared_buffers": "512MB",
    "work_mem": "64MB",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "track_activity_query_size": "65536",
    "autovacuum": "off",
    "random_page_cost": "1.1",
}
ROUNDS = 9
ROUND_US = 60_000
"""A round repeats a short statement until it has taken about so long."""
_DONE = {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}


@dataclass(frozen=True)
class _Asked:
    """One text on one connection of its own."""

    run: Callable[[], float]
    """Returns the microseconds that it took."""
    busy_us: Callable[[], float]
    """Returns for how long the server has worked for the connection; other programs' turns are not in it."""


def _exec(connection: psycopg.Connection[Any], text: str) -> pq.abc.PGresult:
    result = connection.pgconn.exec_(text.encode())
    if result.status not in _DONE:
        raise SystemExit(f"{text[:300]}: {result.error_message.decode()}")
    return result


def _asked(connection: psycopg.Connection[Any], text: str, statement: Statement) -> _Asked:
    pgconn, values = connection.pgconn, [value.encode() for value in statement.values]
    data = text.encode()
    if statement.values:
        made = pgconn.prepare(b"timed", data)
        if made.status not in _DONE:
            raise SystemExit(f"{text}: {made.error_message.decode()}")

    def run() -> float:
        if statement.writes:
            _exec(connection, "BEGIN")
        begun = time.perf_counter_ns()
        result = pgconn.exec_prepared(b"timed", values) if values else pgconn.exec_(data)
        took = time.perf_counter_ns() - begun
        if result.status not in _DONE:
            raise SystemExit(f"{text}: {result.error_message.decode()}")
        if statement.writes:
            _exec(connection, "ROLLBACK")
        return took / 1000

    schedule = Path(f"/proc/{pgconn.backend_pid}/schedstat")
    return _Asked(run, lambda: int(schedule.read_text().split()[0]) / 1000)


@contextmanager
def ledger() -> Generator[tuple[Server, Sluice]]:
    """Run a server with the ledger, and Sluice before it."""
    with ExitStack() as stack:
        server = stack.enter_context(Server(find(), settings=SETTINGS))
        server.create_database("ledger")
        loaded = subprocess.run(
            [server.program("psql"), "-qXv", "ON_ERROR_STOP=1", "-d", server.dsn(dbname="ledger"),
             "-f", LEDGER / "schema.sql"],
            check=False, capture_output=True, text=True, env=environment_without_libpq(),
        )  # fmt: skip
        if loaded.returncode:
            raise SystemExit(f"the ledger cannot be made: {loaded.stderr[-1000:]}")
        sluice = stack.enter_context(
            Sluice(server, dbname="ledger", policies=LEDGER, namespace="bench")
        )
        yield server, sluice


def sent(admin: psycopg.Connection[Any], through: psycopg.Connection[Any], one: Statement) -> str:
    """Run a statement through Sluice; return the text that the server received."""
    if one.writes:
        _exec(through, "BEGIN")
    _asked(through, one.text, Statement(one.name, one.text, one.values)).run()
    found = admin.execute(
        "SELECT query FROM pg_stat_activity WHERE usename = 'desk' AND backend_type = 'client backend' "
        "ORDER BY state_change DESC LIMIT 1"
    ).fetchone()
    if one.writes:
        _exec(through, "ROLLBACK")
    if one.values:
        _exec(through, "DEALLOCATE timed")
    if found is None:
        raise SystemExit(f"{one.name}: the server shows no text")
    return str(found[0])


def compare(dsn: str, one: Statement, text: str) -> dict[str, Any]:
    """Return the medians of both texts in microseconds, and the median of the ratios of the rounds."""
    with ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(dsn, autocommit=True)) for _ in range(2)]
        stack.enter_context(on_one_processor([each.pgconn.backend_pid for each in connections]))
        sides = [
            _asked(connection, each, one)
            for connection, each in zip(connections, (one.text, text), strict=True)
        ]
        warm = min(max(side.run() for side in sides) for _ in range(3))
        each_round = max(1, min(200, int(ROUND_US / warm)))
        rounds = [_round(sides, each_round, turn) for turn in range(ROUNDS)]
    times, busy = ([each[n] for each in rounds] for n in (0, 1))
    return {
        "original_us": round(statistics.median(a for a, _ in times), 1),
        "rewritten_us": round(statistics.median(b for _, b in times), 1),
        "ratio": round(statistics.median(b / a for a, b in times), 3),
        "server_cpu_us": [round(statistics.median(pair[n] for pair in busy), 1) for n in (0, 1)],
        "server_cpu_ratio": round(statistics.median(b / a for a, b in busy), 3),
        "runs": each_round * ROUNDS,
    }


@contextmanager
def on_one_processor(servers: list[int]) -> Generator[None]:
    """Keep this thread and the processes that it talks to on one processor.

    They take turns. Waking an idle processor takes longer than a look-up, and which connection has to wake one is luck.
    """
    before = os.sched_getaffinity(0)
    for process in (0, *servers):
        os.sched_setaffinity(process, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


Pair = tuple[float, float]


def _round(sides: list[_Asked], each: int, turn: int) -> tuple[Pair, Pair]:
    """Return the median time of each side, and its server's work for each run."""
    times: tuple[list[float], list[float]] = ([], [])
    before = [side.busy_us() for side in sides]
    for number in range(each):
        for side in (0, 1) if (turn + number) % 2 else (1, 0):
            times[side].append(sides[side].run())
    first, second = ((side.busy_us() - was) / each for side, was in zip(sides, before, strict=True))
    return (statistics.median(times[0]), statistics.median(times[1])), (first, second)


def plan(connection: psycopg.Connection[Any], text: str, values: tuple[str, ...]) -> str:
    """Return the shape of a text's plan: what is scanned how, and joined how, from the top."""
    if values:
        _exec(connection, f"PREPARE explained AS {text}")
        arguments = ", ".join(f"'{value}'" for value in values)
        text = f"EXECUTE explained({arguments})"
    answer = _exec(connection, f"EXPLAIN (FORMAT JSON, COSTS off) {text}").get_value(0, 0) or b""
    if values:
        _exec(connection, "DEALLOCATE explained")
    return _shape(json.loads(answer)[0]["Plan"])


def _shape(node: dict[str, Any]) -> str:
    name = str(node["Node Type"])
    on = node.get("Index Name") or node.get("Relation Name")
    below = [_shape(child) for child in node.get("Plans", ())]
    if name in ("Subquery Scan", "Result") and len(below) == 1:
        return below[0]
    return name + (f" {on}" if on else "") + (f"({', '.join(below)})" if below else "")


def mask_index(rewritten: str, table: str, column: str, columns: list[str]) -> str:
    """Return the index that serves a masked column, made of the mask in a rewritten text."""
    found = re.search(rf'(?:SELECT |, )((?:(?! AS ").)*) AS "{column}"', rewritten)
    if found is None:
        raise SystemExit(f"no mask of {column} in {rewritten}")
    expression = re.sub(r"sluice_s\.c(\d+)", lambda match: columns[int(match[1]) - 1], found[1])
    return f"CREATE INDEX {table}_{column}_masked ON {table} (({expression}), id)"


def measure() -> dict[str, Any]:
    """Measure every statement, then those with advice again with their index."""
    results: list[dict[str, Any]] = []
    with ledger() as (server, sluice), ExitStack() as stack:
        direct = server.dsn(dbname="ledger", sslmode="disable", **DESK)
        admin = stack.enter_context(psycopg.connect(server.dsn(dbname="ledger"), autocommit=True))
        through = stack.enter_context(psycopg.connect(sluice.dsn(**DESK), autocommit=True))
        straight = stack.enter_context(psycopg.connect(direct, autocommit=True))
        columns = [
            str(row[0])
            for row in admin.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'users'::regclass AND attnum > 0 ORDER BY attnum"
            )
        ]
        texts: dict[str, str] = {}
        for one in STATEMENTS:
            text = texts[one.name] = sent(admin, through, one)
            plans = [plan(straight, each, one.values) for each in (one.text, text)]
            found = compare(direct, one, text)
            results.append(_entry(one, found, plans, text != one.text))
            print(f"  {one.name:<34}{found['ratio']:>7.2f}", flush=True)
        indexed: list[dict[str, Any]] = []
        for name, column in (
            ("search of a masked column", "phone"),
            ("unique key that is masked", "email"),
            ("first 20 by a masked column", "email"),
        ):
            one = next(each for each in STATEMENTS if each.name == name)
            index = mask_index(texts[name], "users", column, columns)
            admin.execute(index.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS", 1).encode())
            admin.execute(b"ANALYZE users")
            plans = [plan(straight, each, one.values) for each in (one.text, texts[name])]
            found = compare(direct, one, texts[name])
            indexed.append({**_entry(one, found, plans, True), "index": index})
        version = server.installation.major
    gated = [each for each in results if not each["why"]]
    return {
        "postgresql": version,
        "rows": 1_000_000,
        "rounds": ROUNDS,
        "all": _summary(results),
        "without_searches_of_masks_and_row_filters": _summary(gated),
        "statements": results,
        "with_index": indexed,
    }


def _summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        f"{how}_{name}": round(function([each[name] for each in results]), 3)
        for name in ("ratio", "server_cpu_ratio")
        for how, function in (("median", statistics.median), ("highest", max))
    }


def _entry(one: Statement, found: dict[str, Any], plans: list[str], edited: bool) -> dict[str, Any]:
    same = plans[0] == plans[1]
    return {
        "name": one.name,
        "why": one.why,
        **found,
        "edited": edited,
        "plan": plans[0] if same else {"original": plans[0], "rewritten": plans[1]},
        "same_plan": same,
        **({"advice": one.advice} if one.advice else {}),
    }


def report(found: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'statement':<34}{'original':>11}{'rewritten':>11}{'ratio':>8}{'CPU':>8}  plan")
    again = [{**each, "name": each["name"] + ", index"} for each in found["with_index"]]
    for each in (*found["statements"], *again):
        same = "same" if each["same_plan"] else "other"
        print(
            f"{each['name']:<34}{each['original_us']:>11.1f}{each['rewritten_us']:>11.1f}"
            f"{each['ratio']:>8.2f}{each['server_cpu_ratio']:>8.2f}  {same}  {each['why']}".rstrip()
        )
    for name in ("all", "without_searches_of_masks_and_row_filters"):
        print(f"{name.replace('_', ' ')}: {found[name]}")
