"""Huge statements through Sluice: what its own part takes, how they end, and what another session notices."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from shapes import shape

from sluice_dev import cache
from sluice_dev.postgres import Server, find
from sluice_dev.stack import Sluice

SHOP = cache.ROOT / "examples" / "shop"
SUPPORT = {"user": "support_ro", "password": "support-pw"}
SERVER_S = 10
"""PostgreSQL's own bound on a statement; only texts of several are run at all."""


def _list(count: int, item: Callable[[int], str], between: str = ",") -> str:
    return between.join(item(number) for number in range(count))


SEVERAL = frozenset({"2,000 statements", "3,000 statements", "100,000 statements"})
"""They go in a Query; all others are prepared and not run: planning 30,000 conditions is PostgreSQL's own affair."""
TEXTS: dict[str, Callable[[], str]] = {
    "IN list, 150,000 numbers": lambda: f"SELECT name FROM users WHERE id IN ({_list(150_000, str)})",
    "IN list, 80,000 strings": lambda: "SELECT id FROM users WHERE name IN ("
    + _list(80_000, lambda i: f"'n{i}'") + ")",
    "30,000 ORs": lambda: "SELECT name FROM users WHERE " + _list(30_000, lambda i: f"id = {i}", " OR "),
    "72,000 ORs, 1 MB": lambda: "SELECT name FROM users WHERE " + _list(72_000, lambda i: f"id = {i}", " OR "),
    "30,000 ANDs": lambda: "SELECT name FROM users WHERE " + _list(30_000, lambda i: f"id <> {i}", " AND "),
    "20,000 BETWEENs": lambda: "SELECT name FROM users WHERE "
    + _list(20_000, lambda i: f"id BETWEEN {i} AND {i}", " OR "),
    "25,000 casts": lambda: "SELECT 1 FROM users WHERE id IN (" + _list(25_000, lambda i: f"'{i}'::int") + ")",
    "77,000 casts, 1 MB": lambda: "SELECT 1 FROM users WHERE id IN (" + _list(77_000, lambda i: f"'{i}'::int") + ")",
    "20,000 calls": lambda: "SELECT name FROM users WHERE "
    + _list(20_000, lambda i: f"lower(name) = '{i}'", " OR "),
    "1,600 columns": lambda: f"SELECT {_list(1_600, lambda i: f'email AS c{i}')} FROM users WHERE id = 1",
    "330,000 columns, 1 MB": lambda: f"SELECT {'id,' * 330_000} id FROM users",
    "VALUES, 40,000 rows": lambda: "SELECT count(*) FROM (VALUES " + _list(40_000, lambda i: f"({i}, 'n{i}')") + ") v",
    "INSERT, 20,000 rows": lambda: "INSERT INTO cards VALUES "
    + _list(20_000, lambda i: f"({i}, 1, '4000{i}', '2027-01-31')"),
    "1,000 joined tables": lambda: "SELECT count(*) FROM users u0 "
    + _list(999, lambda i: f"JOIN users u{i + 1} ON u{i + 1}.id = u{i}.id", " "),
    "1,000 joined masks": lambda: "SELECT " + _list(1_000, lambda i: f"u{i}.email") + " FROM "
    + _list(1_000, lambda i: f"users u{i}"),
    "10,000 WITH queries": lambda: f"WITH {_list(10_000, lambda i: f'c{i} AS (SELECT email FROM users)')} SELECT 1",
    "4,000 WITH queries": lambda: f"WITH {_list(4_000, lambda i: f'c{i} AS (SELECT email FROM users)')} SELECT 1",
    "UNION of 2,000": lambda: _list(2_000, lambda i: f"SELECT id, email FROM users WHERE id = {i}", " UNION ALL "),
    "3,000 sub-selects": lambda: "SELECT 1 FROM users u WHERE "
    + _list(3_000, lambda i: f"EXISTS (SELECT FROM orders o WHERE o.user_id = u.id AND o.id = {i})", " OR "),
    "20,000 brackets": lambda: "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "500 nested sub-selects": lambda: "SELECT * FROM " + "(SELECT * FROM " * 500 + "users" + ") x" * 500,
    "50,000 nested arrays": lambda: "SELECT " + "ARRAY[" * 50_000 + "1" + "]" * 50_000,
    "5,000 nested CASE": lambda: "SELECT " + "CASE WHEN true THEN " * 5_000 + "1" + " END" * 5_000,
    "string of 1 MB": lambda: f"SELECT id FROM users WHERE name = '{'x' * 1_000_000}'",
    "code of 15 MB": lambda: f"SELECT {'id,' * 5_000_000} id FROM users",
    "2,000 statements": lambda: "SELECT email FROM users WHERE id = 1;" * 2_000,
    "3,000 statements": lambda: "SELECT email FROM users WHERE id = 1;" * 3_000,
    "100,000 statements": lambda: "SELECT 1;" * 100_000,
    "10,000 parameters": lambda: f"SELECT name FROM users WHERE id IN ({_list(10_000, lambda i: f'${i + 1}')})",
    "65,000 parameters": lambda: f"SELECT name FROM users WHERE id IN ({_list(65_000, lambda i: f'${i + 1}')})",
}  # fmt: skip


def _neighbour(dsn: str, stop: threading.Event, times: list[float]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        number = 1_000_000
        while not stop.is_set():
            number += 1
            begun = time.perf_counter()
            connection.execute(shape(number).encode())
            times.append((time.perf_counter() - begun) * 1000)
            time.sleep(0.01)


def _ask(sluice: Sluice, name: str, text: str) -> tuple[str, float]:
    """Return how it ended, and how long that took."""
    with psycopg.connect(sluice.dsn(**SUPPORT), autocommit=True) as connection:
        data = text.encode()
        begun = time.perf_counter()
        pgconn = connection.pgconn
        result = pgconn.exec_(data) if name in SEVERAL else pgconn.prepare(b"", data)
        took = time.perf_counter() - begun
        if result.status != psycopg.pq.ExecStatus.FATAL_ERROR:
            return "answered", took
        code = result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b""
        said = result.error_field(psycopg.pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        return f"{code.decode()} {said.decode()[:90]}", took


def measure() -> dict[str, Any]:
    """Send each text once, beside a session that sends new small shapes."""
    found: list[dict[str, Any]] = []
    with ExitStack() as stack:
        policies = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-"))) / "p"
        )
        shutil.copytree(SHOP, policies, ignore=shutil.ignore_patterns("*.sql"))
        server = stack.enter_context(Server(find(), settings={"max_stack_depth": "6MB"}))
        server.create_database("shop", SHOP / "schema.sql")
        with psycopg.connect(server.admin_dsn, autocommit=True) as admin:
            admin.execute(f"ALTER ROLE support_ro SET statement_timeout = '{SERVER_S}s'".encode())
        sluice = stack.enter_context(
            Sluice(server, dbname="shop", policies=policies, namespace="shop")
        )
        _ask(sluice, "", "SELECT 1 FROM users WHERE id = 1")
        for name, make in TEXTS.items():
            found.append(_one(sluice, name, make()))
            print(f"  {name:<26}{found[-1]}", flush=True)
        alive = sluice.process.poll() is None
        resident = sluice.resident_bytes()
    return {
        "statement_timeout_s": SERVER_S,
        "statements": found,
        "proxy_alive": alive,
        "resident_after_mib": {key: round(value / 2**20, 1) for key, value in resident.items()},
    }


def _one(sluice: Sluice, name: str, text: str) -> dict[str, Any]:
    stop, times = threading.Event(), list[float]()
    beside = threading.Thread(target=_neighbour, args=(sluice.dsn(**SUPPORT), stop, times))
    beside.start()
    try:
        time.sleep(0.5)
        alone, begun = len(times), time.perf_counter()
        idle = _processor_s(sluice)
        time.sleep(0.5)
        resting = (_processor_s(sluice) - idle) / (time.perf_counter() - begun)
        before, begun = _processor_s(sluice), time.perf_counter()
        waited = len(times)
        outcome, took = _ask(sluice, name, text)
        spent = _processor_s(sluice) - before
    finally:
        stop.set()
        beside.join()
    return {
        "name": name,
        "bytes": len(text),
        "outcome": outcome,
        "whole_s": round(took, 3),
        "proxy_cpu_s": round(max(0.0, spent - resting * took), 3),
        "neighbour_ms": {
            "median_before": round(statistics.median(times[alone:waited] or [0]), 1),
            "highest_before": round(max(times[alone:waited] or [0]), 1),
            "median_meanwhile": round(statistics.median(times[waited:] or [0]), 1),
            "highest_meanwhile": round(max(times[waited:] or [0]), 1),
        },
    }


def _processor_s(sluice: Sluice) -> float:
    """Return the processor time that the proxy has used, in seconds."""
    tasks = Path(f"/proc/{sluice.process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def report(found: dict[str, Any]) -> None:
    """Print the table."""
    print(f"{'huge statement':<26}{'KB':>7}{'whole s':>9}{'CPU s':>8}{'others ms':>11}  outcome")
    for each in found["statements"]:
        print(
            f"{each['name']:<26}{each['bytes'] / 1000:>7.0f}{each['whole_s']:>9.2f}{each['proxy_cpu_s']:>8.2f}"
            f"{each['neighbour_ms']['highest_meanwhile']:>11.0f}  {each['outcome']}"
        )
