"""``sluice audit``: check the chain of an audit spool, and read it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sluice_cli.commands import Commands, later
from sluice_cli.exits import Exit, UsageError

if TYPE_CHECKING:
    from sluice_cli.audit_chain import Report


def add_parser(commands: Commands) -> None:
    """Add ``audit``."""
    audit = commands.add_parser("audit", help="check and read the audit spool")
    actions = audit.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser(
        "verify",
        help="check the chain of every incarnation",
        description="Check that no record of the spool was altered, removed or moved. Exit codes: 0 all is in order, "
        "1 it is not (the first place is named), 2 there is nothing to check.",
    )
    check.add_argument("directory", metavar="DIR", type=Path, help="the spool")
    check.add_argument(
        "--expect-head",
        metavar="HEX",
        help="a chain head noted earlier: it must still be in the chain, so that nothing before it was cut off",
    )
    check.set_defaults(handler=run)
    show = actions.add_parser("show", help="print the executions, one a line")
    show.add_argument("directory", metavar="DIR", type=Path, help="the spool")
    show.add_argument("--last", metavar="N", type=int, help="only the last N executions")
    show.set_defaults(handler=later("sluice_cli.audit_show", "run"))


def verify(directory: Path, expect_head: str | None = None) -> Report:
    """Check a spool.

    Args:
        directory: The spool.
        expect_head: A head of a chain, 64 hexadecimal digits, that must be there.

    Raises:
        UsageError: There is no such directory, or it has no segments.
    """
    from sluice_cli.audit_chain import check  # noqa: PLC0415 - keeps `sluice --help` quick.

    return check(directory, expect_head)


def run(arguments: argparse.Namespace) -> int:
    """Carry out ``sluice audit verify``."""
    expected: str | None = arguments.expect_head
    if expected is not None:
        expected = expected.lower()
        if len(expected) != 64 or set(expected) - set("0123456789abcdef"):
            raise UsageError("--expect-head takes 64 hexadecimal digits")
    report = verify(arguments.directory, expected)
    for chain in report.chains:
        print(
            f"incarnation {chain.incarnation}: {chain.records} records, {chain.executions} executions"
            f"{', closed' if chain.closed else ''}\n  head {chain.head}"
        )
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"sluice: {problem}", file=sys.stderr)
    print("not in order" if report.problems else "in order")
    return Exit.PROBLEMS if report.problems else Exit.OK
