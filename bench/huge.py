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


def _list(count: int, item: Callable[[int], str], between: str = ",") -> str:
    return between.join(item(number) for number in range(count))


TEXTS: dict[str, Callable[[], str]] = {
    "IN list, 1 MB": lambda: f"SELECT name FROM users WHERE id IN ({_list(150_000, str)})",
    "OR chain, 370 KB": lambda: "SELECT name FROM users WHERE id = 0 AND ("
    + _list(27_000, lambda i: f"id = {i}", " OR ")
    + ")",
    "string of 1 MB": lambda: f"SELECT id FROM users WHERE name = '{'x' * 1_000_000}'",
    "VALUES, 20,000 rows": lambda: "SELECT count(*) FROM (VALUES "
    + _list(20_000, lambda i: f"({i}, 'n{i}')")
    + ") v",
    "1,000 joined tables": lambda: "SELECT count(*) FROM users u0 "
    + _list(999, lambda i: f"JOIN users u{i + 1} ON u{i + 1}.id = u{i}.id", " "),
    "1,600 columns": lambda: f"SELECT {_list(1_600, lambda i: f'email AS c{i}')} FROM users WHERE id = 1",
    "10,000 WITH queries": lambda: f"WITH {_list(10_000, lambda i: f'c{i} AS (SELECT {i})')} SELECT 1",
    "UNION of 2,000": lambda: _list(2_000, lambda i: f"SELECT id, email FROM users WHERE id = {i}", " UNION ALL "),
    "20,000 brackets": lambda: "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
    "500 nested sub-selects": lambda: "SELECT * FROM " + "(SELECT * FROM " * 500 + "users" + ") x" * 500,
    "50,000 nested arrays": lambda: "SELECT " + "ARRAY[" * 50_000 + "1" + "]" * 50_000,
    "5,000 nested CASE": lambda: "SELECT " + "CASE WHEN true THEN " * 5_000 + "1" + " END" * 5_000,
    "2,000 statements": lambda: "SELECT email FROM users WHERE id = 1;" * 2_000,
    "100,000 statements": lambda: "SELECT 1;" * 100_000,
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


def _ask(sluice: Sluice, text: str, values: list[bytes] | None = None) -> tuple[str, float]:
    with psycopg.connect(sluice.dsn(**SUPPORT), autocommit=True) as connection:
        begun = time.perf_counter()
        pgconn = connection.pgconn
        result = (
            pgconn.exec_params(text.encode(), values) if values else pgconn.exec_(text.encode())
        )
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
        sluice = stack.enter_context(
            Sluice(server, dbname="shop", policies=policies, namespace="shop")
        )
        _ask(sluice, "SELECT 1 FROM users WHERE id = 1")
        parameters = _list(10_000, lambda i: f"${i + 1}")
        asked: dict[str, tuple[str, list[bytes] | None]] = {
            name: (make(), None) for name, make in TEXTS.items()
        }
        asked["10,000 parameters"] = (
            f"SELECT name FROM users WHERE id IN ({parameters})", [b"7"] * 10_000
        )  # fmt: skip
        for name, (text, values) in asked.items():
            stop, times = threading.Event(), list[float]()
            beside = threading.Thread(target=_neighbour, args=(sluice.dsn(**SUPPORT), stop, times))
            beside.start()
            try:
                time.sleep(0.3)
                alone = len(times)
                before = _processor_s(sluice)
                outcome, took = _ask(sluice, text, values)
                spent = _processor_s(sluice) - before
            finally:
                stop.set()
                beside.join()
            found.append({
                "name": name,
                "bytes": len(text),
                "outcome": outcome,
                "whole_s": round(took, 3),
                "proxy_cpu_s": round(spent, 3),
                "neighbour_ms": {
                    "before": round(statistics.median(times[:alone] or [0]), 1),
                    "highest_meanwhile": round(max(times[alone:] or [0]), 1),
                },
            })  # fmt: skip
            print(f"  {name:<26}{found[-1]}", flush=True)
        alive = sluice.process.poll() is None
    return {"statements": found, "proxy_alive": alive}


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
