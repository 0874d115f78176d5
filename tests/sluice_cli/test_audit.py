"""``sluice audit``: what breaks a chain is found and named. The records are made here as the format describes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_cli import audit
from sluice_cli.__main__ import main
from sluice_cli.audit_chain import Report
from sluice_cli.exits import UsageError

FIRST = "0" * 31 + "1"
SECOND = "0" * 31 + "2"


class Writer:
    """Writes an incarnation as docs/reference/audit-spool.md says."""

    def __init__(self, directory: Path, incarnation: str) -> None:
        self.directory = directory
        self.incarnation = incarnation
        self.head = hashlib.sha256(b"sluice-audit/1" + incarnation.encode()).digest()
        self.sequence = 0
        self.path = directory

    def record(self, kind: str, /, **members: object) -> int:
        self.sequence += 1
        at = f"2026-01-02T03:04:05.{self.sequence:09}Z"
        record = {"v": 1, "seq": self.sequence, "at": at, "kind": kind, **members}
        text = json.dumps(record, separators=(",", ":")).encode()
        self.head = hashlib.sha256(self.head + text).digest()
        with self.path.open("ab") as file:
            file.write(self.head.hex().encode() + b" " + text + b"\n")
        return self.sequence

    def segment(self, **members: object) -> None:
        self.path = self.directory / f"{self.incarnation}-{self.sequence + 1:016}.jsonl"
        self.record("open", incarnation=self.incarnation, head=self.head.hex(), **members)

    def execution(self, *, rows: int = 1, **facts: object) -> None:
        event = self.record("begin", session=1, identity={"role": "ann"}, **facts)
        self.record("end", event=event, rows=rows, bytes=10, duration_us=1500)


def make_spool(directory: Path) -> Writer:
    """Two incarnations, the first of three segments."""
    directory.mkdir(parents=True, exist_ok=True)
    first = Writer(directory, FIRST)
    for _ in range(3):
        first.segment()
        first.execution(verdict="allow", tables=["public.users"])
    first.record("close")
    second = Writer(directory, SECOND)
    second.segment(after={"incarnation": FIRST, "seq": first.sequence, "head": first.head.hex()})
    second.record("session", session=1, who={"role": "ann"})
    second.execution(verdict="allow")
    return second


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.jsonl"))


def found(directory: Path, expect_head: str | None = None) -> Report:
    return audit.verify(directory, expect_head)


def test_whole_spool_is_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = make_spool(tmp_path).head.hex()
    assert main(["audit", "verify", str(tmp_path), "--expect-head", head]) == 0
    out = capsys.readouterr().out
    assert f"incarnation {FIRST}: 10 records, 3 executions, closed" in out
    assert f"head {head}" in out
    assert out.endswith("in order\n")


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_changed_byte_is_found(tmp_path: Path, data: st.DataObject) -> None:
    make_spool(tmp_path)
    path = data.draw(st.sampled_from(files(tmp_path)))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    problems = found(tmp_path).problems
    for left in files(tmp_path):
        left.unlink()
    assert problems
    assert problems[0].file == path.name
    assert problems[0].line == 1 + bytes(content[:place]).count(b"\n")


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_removed_or_inserted_byte_is_found(tmp_path: Path, data: st.DataObject) -> None:
    head = make_spool(tmp_path).head.hex()
    path = data.draw(st.sampled_from(files(tmp_path)))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place]
    else:
        content.insert(place, data.draw(st.integers(0, 255)))
    path.write_bytes(content)
    problems = found(tmp_path, head).problems
    for left in files(tmp_path):
        left.unlink()
    assert problems


def test_any_removed_record_is_found_and_named(tmp_path: Path) -> None:
    head = make_spool(tmp_path).head.hex()
    for path in files(tmp_path):
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        for number in range(len(lines)):
            path.write_bytes(b"".join(lines[:number] + lines[number + 1 :]))
            problems = found(tmp_path, head).problems
            assert [problem.kind for problem in problems[:1]] == ["missing"], problems
        path.write_bytes(whole)


def test_any_two_swapped_records_are_found_and_named(tmp_path: Path) -> None:
    make_spool(tmp_path)
    for path in files(tmp_path):
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        for one in range(len(lines)):
            for other in range(one):
                swapped = lines.copy()
                swapped[one], swapped[other] = lines[other], lines[one]
                path.write_bytes(b"".join(swapped))
                problem = found(tmp_path).problems[0]
                assert (problem.kind, problem.file, problem.line) == (
                    "reordered",
                    path.name,
                    other + 1,
                )
        path.write_bytes(whole)


def test_any_truncation_is_found_but_for_the_very_tail(tmp_path: Path) -> None:
    head = make_spool(tmp_path).head.hex()
    for path in files(tmp_path):
        whole = path.read_bytes()
        for length in range(0, len(whole), 7):
            path.write_bytes(whole[:length])
            assert found(tmp_path, head).problems
            if path != files(tmp_path)[-1]:
                assert found(tmp_path).problems
        path.write_bytes(whole)
    assert not found(tmp_path, head).problems


def test_any_removed_segment_is_found(tmp_path: Path) -> None:
    head = make_spool(tmp_path).head.hex()
    for path in files(tmp_path):
        whole = path.read_bytes()
        path.unlink()
        assert [problem.kind for problem in found(tmp_path, head).problems[:1]] == ["missing"]
        path.write_bytes(whole)


def test_a_removed_incarnation_is_found_through_the_next(tmp_path: Path) -> None:
    make_spool(tmp_path)
    for path in files(tmp_path)[:3]:
        path.unlink()
    assert f"incarnation {FIRST} was there" in found(tmp_path).problems[0].message


def test_swapped_segments_are_found(tmp_path: Path) -> None:
    make_spool(tmp_path)
    one, other = files(tmp_path)[:2]
    one_bytes, other_bytes = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_bytes)
    other.write_bytes(one_bytes)
    assert found(tmp_path).problems[0].kind == "reordered"


def test_a_line_cut_by_a_crash_is_a_note(tmp_path: Path) -> None:
    writer = make_spool(tmp_path)
    whole = writer.path.read_bytes()
    writer.record("begin", session=1)
    line = writer.path.read_bytes()[len(whole) :]
    for length in range(1, len(line)):
        writer.path.write_bytes(whole + line[:length])
        report = found(tmp_path)
        assert not report.problems
        assert "cut off" in report.notes[0]


def test_an_execution_without_end_is_a_note(tmp_path: Path) -> None:
    writer = make_spool(tmp_path)
    event = writer.record("begin", session=1)
    report = found(tmp_path)
    assert not report.problems
    assert f"begin {event}" in report.notes[0]


def test_more_records_behind_the_expected_head_are_in_order(tmp_path: Path) -> None:
    writer = make_spool(tmp_path)
    head = writer.head.hex()
    writer.execution()
    assert not found(tmp_path, head).problems


def test_a_broken_chain_ends_with_1_and_names_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_spool(tmp_path)
    path = files(tmp_path)[1]
    path.write_bytes(path.read_bytes().replace(b'"rows":1', b'"rows":2'))
    assert main(["audit", "verify", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"sluice: {path.name}:3: altered: record 6 ")
    assert printed.out.endswith("not in order\n")


@pytest.mark.parametrize("head", ["", "12", "g" * 64])
def test_a_head_that_is_none_is_a_usage_error(tmp_path: Path, head: str) -> None:
    make_spool(tmp_path)
    assert main(["audit", "verify", str(tmp_path), "--expect-head", head]) == 2


def test_a_directory_without_segments_is_a_usage_error(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError):
            audit.verify(directory)
        assert main(["audit", "show", str(directory)]) == 2


def test_executions_are_shown_one_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = Writer(tmp_path, FIRST)
    writer.segment()
    masks = [{"table": "public.users", "column": "email", "mask": "email"}]
    writer.execution(
        rows=5,
        verdict="allow",
        statement={"kind": "select", "tables": ["public.users"], "masks": masks},
        template="SELECT email\n  FROM users WHERE id = ?",
    )
    writer.execution(
        verdict="allow", statement={"kind": "\x1b[2J", "tables": [{"name": "public.orders"}]}
    )
    reasons = [{"policy": "shop/guard", "rule": "no-ddl"}]
    denied = {"kind": "drop", "reasons": reasons}
    event = writer.record("begin", identity={"role": "bob"}, verdict="deny", statement=denied)
    writer.record("end", event=event, sqlstate="42501", denied=True)
    event = writer.record("begin", identity={"role": "bob"}, verdict="allow")
    writer.record("end", event=event, sqlstate="22012")
    writer.record("begin", identity={"role": "bob"}, verdict="allow")
    assert main(["audit", "show", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "2026-01-02 03:04:05.000  ann  allow  5 rows 1.5 ms  public.users [email: email]  "
        "SELECT email FROM users WHERE id = ?"
    )
    assert lines[1].endswith("1 row 1.5 ms  public.orders  \\u001b[2J")
    assert lines[2].endswith("bob  deny  not run 42501  -  drop  (shop/guard no-ddl)")
    assert lines[3].endswith("bob  allow  error 22012  -")
    assert "no end" in lines[4]
    assert main(["audit", "show", str(tmp_path), "--last", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == lines[4:]
