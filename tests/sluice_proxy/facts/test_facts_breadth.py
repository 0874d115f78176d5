"""The breadth of SQL: what users write works as without Sluice, and tells nothing (tests/golden/breadth.sql)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Open = Callable[..., Any]

FILE = Path(__file__).parents[2] / "golden" / "breadth.sql"
RAW = ("canary", "cobalt", "hidden", "70001", "40002", "1970-01-06")


def statements() -> list[tuple[int, str]]:
    """Return each statement with the server version that it needs."""
    since, out = 0, list[tuple[int, str]]()
    for line in FILE.read_text().splitlines():
        heading = re.fullmatch(r"-- since (\d+)", line)
        if heading is not None:
            since = int(heading[1])
        elif not line.startswith("--"):
            out.append((since, line))
    return out


def check(sessions: list[Any], sql: str) -> None:
    *restricted, shown = sessions
    plain, held = shown.raw(sql), shown.ask(sql)
    assert plain.sqlstate is None, (sql, plain)
    assert held.refused is None, (sql, held.refused)
    assert (held.rows, held.columns, held.sqlstate) == (plain.rows, plain.columns, None), held.text
    answers = [session.ask(sql) for session in restricted]
    seen = [(each.rows, each.columns, each.sqlstate, each.refused) for each in answers]
    assert seen[0] == seen[1], answers[0].text
    assert (answers[0].sqlstate, answers[0].refused) == (None, None), (sql, answers[0])
    assert not [mark for mark in RAW if mark in str(answers[0].rows)], answers[0].text


@pytest.mark.parametrize("sql", [sql for since, sql in statements() if since <= 15])
def test_statement_works_and_tells_nothing(sessions: list[Any], sql: str) -> None:
    check(sessions, sql)


def test_every_major_answers_what_its_grammar_has(open_elsewhere: Open) -> None:
    sessions = [open_elsewhere("A"), open_elsewhere("B"), open_elsewhere(identity=True)]
    major = sessions[0].catalog.server_major
    without_xml = "xml" if major > 15 else "\0"
    for since, sql in statements():
        if 15 < major >= since and without_xml not in sql.lower():
            check(sessions, sql)
