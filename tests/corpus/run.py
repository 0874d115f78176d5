"""Run the corpora against Sluice: attacks, wire cases, benign statements and client libraries.

``make corpus`` calls this. The last line it prints is always

    corpus: sql leaks A/B, wire failures C/D, benign E/F, clients G/H

and it exits 1 unless A and C are 0, E is F and G is H; with ``--ratchet`` unless A is 0 and no other count is worse
than the committed one. The fixture's schema, its policy and the two runners come from ``--shared``; the cases
and clients from ``--corpus``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import counts
import runners

from sluice_dev.cache import ROOT
from sluice_dev.postgres import PostgresError, Server, find
from sluice_dev.stack import Sluice, StackError

HERE = Path(__file__).parent
DATABASE = "leaks"
ANALYST = {"user": "lk_analyst", "password": "analyst-pw"}
STEWARD = {"user": "lk_steward", "password": "steward-pw"}


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    corpus: Path
    shared: Path
    direct: bool
    serve: bool
    only: str | None
    parts: frozenset[str]
    ratchet: Path | None
    update: bool
    major: int | None


class Lane:
    """One server with the fixture, and Sluice before it: what one runner after the other may have for itself."""

    def __init__(self, options: Options, stack: contextlib.ExitStack) -> None:
        """Start both; ``stack`` ends them."""
        self.server = stack.enter_context(Server(find(contrib=True, major=options.major)))
        self.server.create_database(DATABASE, options.shared / "schema.sql")
        self.admin = self.server.dsn(dbname=DATABASE)
        self.direct = self.server.dsn(dbname=DATABASE, sslmode="disable", **ANALYST)
        self.restricted, self.steward = self.direct, self.server.dsn(dbname=DATABASE, **STEWARD)
        self.sluice: Sluice | None = None
        if not options.direct:
            self.sluice = stack.enter_context(
                Sluice(self.server, dbname=DATABASE, policies=HERE / "policies", namespace="corpus")
            )
            self.restricted = self.sluice.dsn(**ANALYST)
            self.steward = self.sluice.dsn(**STEWARD)


def parse(arguments: list[str]) -> Options:
    """Read the command line; complains and ends when a folder is not there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="cases and clients (default: --shared)")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared" / "corpus")
    parser.add_argument(
        "--direct",
        action="store_true",
        help="straight to PostgreSQL: nearly every attack must leak",
    )
    parser.add_argument(
        "--serve", action="store_true", help="start everything, print the DSNs, wait for Ctrl-C"
    )
    parser.add_argument("--only", help="regular expression on id or category of cases")
    parser.add_argument("--parts", default="sql,wire,benign,clients", help="comma-separated")
    parser.add_argument("--ratchet", type=Path, help="judge by the counts in this file")
    parser.add_argument(
        "--update-ratchet", action="store_true", help="write the counts that are better into it"
    )
    parser.add_argument("--major", type=int, help="server version (default: the one installed)")
    given = parser.parse_args(arguments)
    corpus = (given.corpus or given.shared).resolve()
    for folder, files in (
        (given.shared, ("schema.sql", "run_check.py", "run_wire.py")),
        (corpus, ()),
    ):
        for path in (folder, *(folder / name for name in files)):
            if not path.exists():
                parser.error(
                    f"{path} is not there; name the corpora's folder: make corpus CORPUS=DIR"
                )
    return Options(
        corpus=corpus,
        shared=given.shared.resolve(),
        direct=given.direct,
        serve=given.serve,
        only=given.only,
        parts=frozenset(given.parts.split(",")),
        ratchet=given.ratchet,
        update=given.update_ratchet,
        major=given.major,
    )


def serve(options: Options) -> int:
    """Start one lane, print its DSNs, and wait for a signal."""
    with contextlib.ExitStack() as stack:
        lane = Lane(options, stack)
        for name in ("admin", "direct", "restricted", "steward"):
            print(f"{name}: {getattr(lane, name)}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    return 0


def run(options: Options) -> counts.Counts:
    """Run the parts asked for, attacks beside the rest, each on a server of its own."""
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(1) as pool:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-corpus-")))
        setting = runners.Setting(
            corpus=options.corpus,
            shared=options.shared,
            work=work,
            only=options.only,
            direct=options.direct,
        )
        attacks: concurrent.futures.Future[counts.Part] | None = None
        first = Lane(options, stack) if "sql" in options.parts else None
        if first is not None:
            attacks = pool.submit(runners.attacks, setting, first.admin, first.restricted)
        nothing = counts.Part(0, 0)
        wire = benign = clients = nothing
        rest = options.parts - {"sql"}
        second = Lane(options, stack) if rest else None
        if second is not None:
            plainly = second.direct if options.major else None
            if "benign" in rest:
                benign = runners.benign(setting, second.admin, second.restricted, plainly)
            if "clients" in rest:
                clients = runners.clients(
                    setting, second.restricted, second.server.program("psql").parent, plainly
                )
            if "wire" in rest:
                wire = runners.wire(setting, second.admin, second.restricted)
        sql = attacks.result() if attacks is not None else nothing
        for lane in (first, second):
            if (
                lane is not None
                and lane.sluice is not None
                and lane.sluice.process.poll() is not None
            ):
                print(f"sluice run ended by itself:\n{lane.sluice.log_end()}")
                return counts.Counts(
                    counts.Part(max(sql.total, 1), max(sql.total, 1)), wire, benign, clients
                )
    return counts.Counts(sql, wire, benign, clients)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    sys.exit(143)  # Unwinds, so that every server is stopped.


def main() -> int:
    """Return the exit code."""
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, _terminate)
    if options.serve:
        # Blocked before any thread is there, so that sigwait alone receives them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        if options.serve:
            return serve(options)
        result = run(options)
    except (PostgresError, StackError, FileNotFoundError) as error:
        print(f"corpus: cannot start: {error}", file=sys.stderr)
        return 2
    good = result.judge(options.ratchet, update=options.update)
    print(result.line(), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
