"""The options that say who the workload is."""

from __future__ import annotations

import argparse


def add_identity_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that say who the workload is."""
    group = parser.add_argument_group("identity of the workload")
    group.add_argument(
        "--namespace",
        metavar="NAME",
        default="default",
        help="its namespace, and that of resources without one (default: default)",
    )
    group.add_argument(
        "--service-account",
        metavar="NAME",
        default="default",
        help="its service account (default: default)",
    )
    group.add_argument(
        "--labels",
        metavar="K=V",
        action="append",
        default=[],
        help="a label of its pod; repeatable, or several joined by commas",
    )
