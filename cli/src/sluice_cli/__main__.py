"""The command ``sluice``."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version

from sluice_cli import audit, bundle_options, run_options, sql_commands
from sluice_cli.exits import Exit, UsageError


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="sluice",
        description="Database governance: masks and filters at the source, decided by Open Policy Agent.",
        epilog="Exit codes and every option: docs/reference/cli.md.",
    )
    top.add_argument("--version", action="version", version=f"sluice {version('sluice-cli')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run_options.add_parser(commands)
    bundle_options.add_parsers(commands)
    sql_commands.add_parser(commands)
    audit.add_parser(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.handler(arguments))
    except UsageError as error:
        print(f"sluice: {error}", file=sys.stderr)
        return Exit.USAGE
    except BrokenPipeError:
        # The reader of a pipe (head, grep -q) has seen enough.
        sys.stderr.close()
        return Exit.OK
    except KeyboardInterrupt:
        return 130
    except Exception:  # noqa: BLE001  The last line: whatever it is, the exit code says that it is a bug.
        traceback.print_exc()
        print("sluice: internal error, please report it with the lines above", file=sys.stderr)
        return Exit.INTERNAL


if __name__ == "__main__":
    sys.exit(main())
