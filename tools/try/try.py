"""`make try`: Sluice before a database of its own, what two identities see, and what was recorded.

Starts an embedded PostgreSQL with the shop of examples/shop, OPA and Sluice; every step checks what it shows, and the
exit code is 1 when one did not show what it must. Ctrl-C ends everything that was started.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Any, LiteralString

import psycopg

from sluice_dev import cache
from sluice_dev.postgres import PostgresError, Server, find
from sluice_dev.screen import Screen
from sluice_dev.stack import Sluice, StackError

SHOP = cache.ROOT / "examples" / "shop"
APP = {"user": "shop_app", "password": "app-pw"}
SUPPORT = {"user": "support_ro", "password": "support-pw"}
Connection = psycopg.Connection[tuple[Any, ...]]


class Demonstration:
    """The steps, in order; each a method."""

    def __init__(self, screen: Screen, server: Server, sluice: Sluice, policies: Path) -> None:
        """Connect as both identities, through Sluice."""
        self.screen, self.server, self.sluice, self.policies = screen, server, sluice, policies
        self.app = psycopg.connect(sluice.dsn(**APP), autocommit=True)
        self.support = psycopg.connect(sluice.dsn(**SUPPORT), autocommit=True)
        self.owner = psycopg.connect(server.dsn(dbname="shop"), autocommit=True)

    def same_query(self) -> None:
        """The same statement as both identities."""
        query = "SELECT id, name, email, ssn FROM users WHERE id < 3 ORDER BY id"
        totals = "SELECT region, count(*) FROM orders GROUP BY region ORDER BY region"
        self.screen.heading(f"1  One query, two identities:  {query}")
        raw, masked = _rows(self.app, query), _rows(self.support, query)
        self.screen.rows("shop_app", raw)
        self.screen.rows("support_ro", masked)
        everywhere, here = _rows(self.app, totals), _rows(self.support, totals)
        self.screen.line(
            f"orders by region:  shop_app {_pairs(everywhere)}   support_ro {_pairs(here)}"
        )
        self.screen.check(
            all(
                a[0] == b[0]
                and a[2] != b[2]
                and a[3] != b[3]
                and a[3].strip()[-4:] == b[3].strip()[-4:]
                for a, b in zip(raw, masked, strict=True)
            ),
            "support_ro sees masked e-mail and SSN of the same rows",
        )
        self.screen.check(
            len(everywhere) == 3 and [row[0] for row in here] == ["eu"], "rows are filtered"
        )

    def filter_on_mask(self) -> None:
        """What is masked cannot be searched for either: masking is done at the source."""
        ssn = self.owner.execute("SELECT ssn FROM users WHERE id = 4711").fetchall()[0][0]
        query = "SELECT id FROM users WHERE ssn = %s"
        self.screen.heading(f"2  A filter on a masked column finds nothing:  … WHERE ssn = '{ssn}'")
        found = [
            len(connection.execute(query, [ssn]).fetchall())
            for connection in (self.app, self.support)
        ]
        self.screen.line(f"shop_app {found[0]} row(s)   support_ro {found[1]} row(s)")
        self.screen.check(found[0] >= 1 and found[1] == 0, "only shop_app finds the row")

    def denials(self) -> None:
        """Statements that are not run."""
        self.screen.heading("3  Denied, in PostgreSQL's own form; the session goes on")
        self._denied("support_ro", self.support, "SELECT pan FROM cards WHERE id = 1")
        self._denied("shop_app", self.app, "DROP TABLE orders CASCADE")
        left = self.owner.execute("SELECT count(*) FROM orders").fetchall()[0][0]
        self.screen.line(f"{'':<11}orders still has {left} rows; both connections are alive")
        alive = [_rows(connection, "SELECT 1") for connection in (self.app, self.support)]
        self.screen.check(left == 100_000 and alive == [[(1,)]] * 2, "nothing was dropped")

    def _denied(self, who: str, connection: Connection, query: LiteralString) -> None:
        try:
            connection.execute(query)
        except psycopg.Error as error:
            diag = error.diag
            self.screen.line(f"{who:<11}{query}")
            self.screen.line(f"{'':<11}ERROR {diag.sqlstate}: {diag.message_primary}")
            self.screen.wrapped(f"DETAIL: {diag.message_detail}", 11)
            self.screen.wrapped(f"HINT: {diag.message_hint}", 11)
            self.screen.check(
                diag.sqlstate == "42501" and bool(diag.message_detail) and bool(diag.message_hint),
                f"{query} is denied with SQLSTATE 42501, DETAIL and HINT",
            )
        else:
            self.screen.check(holds=False, what=f"{query} is denied")

    def index(self) -> None:
        """PostgreSQL's own counters tell whether the rewritten statements used the index."""
        self.screen.heading(
            "4  The index is still used:  100 times SELECT id, email FROM users WHERE id = …  as support_ro"
        )
        before = self._scans()
        with psycopg.connect(self.sluice.dsn(**SUPPORT), autocommit=True) as connection:
            begun = time.perf_counter()
            for number in range(100):
                connection.execute("SELECT id, email FROM users WHERE id = %s", [number * 97 + 1])
            took = (time.perf_counter() - begun) * 10  # ms a statement
        deadline = time.monotonic() + 5
        while (after := self._scans())[0] < before[0] + 100 and time.monotonic() < deadline:
            time.sleep(0.05)  # A backend hands in its counters when it ends.
        by_index, whole = after[0] - before[0], after[1] - before[1]
        self.screen.line(
            f"pg_stat_user_tables: {by_index} index scans, {whole} scans of the whole table; {took:.2f} ms a statement"
        )
        self.screen.check(
            by_index >= 100 and whole == 0, "every look-up went through the primary key"
        )

    def _scans(self) -> tuple[int, int]:
        """Index and whole-table scans of users; read on a new connection, which caches no statistics."""
        with psycopg.connect(self.server.dsn(dbname="shop")) as connection:
            row = connection.execute(
                "SELECT idx_scan, seq_scan FROM pg_stat_user_tables WHERE relname = 'users'"
            ).fetchall()[0]
            return int(row[0]), int(row[1])

    def policy_change(self) -> None:
        """A policy file is edited; the open connection sees it."""
        self.screen.heading("5  support.yaml edited (email: email → redact), same connection")
        query = "SELECT email FROM users WHERE id = 1"
        old = _rows(self.support, query)[0][0]
        file = self.policies / "support.yaml"
        text = file.read_text().replace(
            "{class: pii.email, mask: email}", "{class: pii.email, mask: redact}"
        )
        edited = file.with_suffix(".new")
        edited.write_text(text)
        begun = time.perf_counter()
        edited.replace(file)
        new = old
        while new == old and time.perf_counter() - begun < 10:
            new = _rows(self.support, query)[0][0]
        took = (time.perf_counter() - begun) * 1000
        self.screen.line(f"before {old}   after {new}   in force after {took:.0f} ms")
        self.screen.check(new != old and took < 1000, "the change is in force within a second")

    def audit(self) -> None:
        """What was recorded, and whether the record is whole."""
        self.screen.heading(
            "6  Recorded before the first result byte:  sluice audit show, sluice audit verify"
        )
        shown = _sluice("audit", "show", str(self.sluice.spool))
        kinds = ("SELECT id, name", "WHERE ssn", "FROM cards", "DROP TABLE", "[email: redact]")
        events = shown.stdout.splitlines()
        for (
            kind
        ) in kinds:  # One event of each step; the look-ups of steps 4 and 5 alone are hundreds.
            self.screen.line(
                next((line for line in reversed(events) if kind in line), f"no {kind}")[11:]
            )
        self.screen.check(
            shown.returncode == 0 and all(any(kind in line for line in events) for kind in kinds),
            f"every step was recorded {shown.stderr}",
        )
        verified = _sluice("audit", "verify", str(self.sluice.spool))
        self.screen.line(" ".join((verified.stdout + verified.stderr).split()))
        self.screen.check(verified.returncode == 0, "the chain of events is whole")

    def close(self) -> None:
        """Close the connections."""
        for connection in (self.app, self.support, self.owner):
            connection.close()


def _rows(connection: Connection, query: LiteralString) -> list[tuple[Any, ...]]:
    return connection.execute(query).fetchall()


def _pairs(rows: list[tuple[Any, ...]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in rows)


def _sluice(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("sluice")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _keep(screen: Screen, server: Server, sluice: Sluice, policies: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        screen.heading("Up until Ctrl-C. Play with it:")
        psql = server.program("psql")
        for identity in (SUPPORT, APP):
            secret = f"PGPASSWORD={identity['password']}"
            print(f"  {secret} {psql} -h {sluice.host} -p {sluice.port} -U {identity['user']} shop")
        readyz = f"http://{sluice.host}:{sluice.health_port}/readyz"
        print(f"  policies: {policies}   health: {readyz}", flush=True)
        while True:  # A signal that comes just before signal.pause() would have to come again.
            time.sleep(0.5)


def demonstrate(*, keep: bool) -> int:
    """Return the exit code."""
    screen = Screen()
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-try-")))
        policies = work / "policies"
        shutil.copytree(SHOP, policies, ignore=shutil.ignore_patterns("*.sql"))
        server = stack.enter_context(Server(find(embedded=True)))
        server.create_database("shop", SHOP / "schema.sql")
        sluice = stack.enter_context(
            Sluice(
                server, dbname="shop", policies=policies, namespace="shop", service_account="shop"
            )
        )
        screen.heading(
            f"Sluice on {sluice.host}:{sluice.port} → PostgreSQL {server.installation.major} on port {server.port}, "
            f"OPA {cache.opa_version()}, policies of examples/shop (up in {time.monotonic() - begun:.1f} s)"
        )
        demonstration = Demonstration(screen, server, sluice, policies)
        stack.callback(demonstration.close)
        for step in (
            demonstration.same_query, demonstration.filter_on_mask, demonstration.denials,
            demonstration.index, demonstration.policy_change, demonstration.audit,
        ):  # fmt: skip
            try:
                step()
            except psycopg.Error as error:
                screen.check(holds=False, what=f"{step.__name__}: {str(error).strip()}")
        if keep:
            _keep(screen, server, sluice, policies)
    if screen.failures:
        print(f"{len(screen.failures)} thing(s) were not as they should be.")
        return 1
    print("All as it should be. README.md says how to put Sluice before a database of yours.")
    return 0


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="stay up until Ctrl-C")
    options = parser.parse_args()
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # SIGINT is ignored in what a script starts in the background.
        signal.signal(number, _terminate)
    try:
        return demonstrate(keep=options.keep)
    except KeyboardInterrupt:
        print("Stopped; nothing is left running.")
        return 130
    except (PostgresError, StackError, FileNotFoundError) as error:
        print(f"try: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
