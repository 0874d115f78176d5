"""Masks over every type, through the whole product: same names, types and modifiers, in text, binary and COPY."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from sluice_dev.restricted import Restriction
from sluice_dev.worlds.extremes import EXTREMES
from sluice_dev.worlds.identity import described
from sluice_dev.worlds.judging import errors
from sluice_dev.worlds.wire import Connection, Message, extended, query

ROLE = "zoo_reader"
MASKS = {"redact": "redact", "nothing": "null"}


TYPES = list(EXTREMES)
SCHEMA = """
CREATE EXTENSION citext; CREATE EXTENSION hstore;
CREATE TYPE public.mood AS ENUM ('it''s', 'sad');
CREATE DOMAIN public.ssn_t AS text CHECK (VALUE ~ '^\\d{3}-\\d{2}-\\d{4}$');
CREATE DOMAIN public.short_t AS varchar(4);
CREATE DOMAIN public.must_t AS public.short_t NOT NULL;
CREATE TYPE public.pair_t AS (a text, b public.ssn_t);
"""


def _tables() -> Iterator[str]:
    yield SCHEMA
    for name in MASKS:
        columns = ", ".join(f"n{i} {kind}, m{i} {kind} NOT NULL" for i, kind in enumerate(TYPES))
        yield f"CREATE TABLE public.{name} ({columns});"
        values: list[str] = []
        for kind, known in EXTREMES.items():
            literal = "'" + known[-1].replace("'", "''") + f"'::{kind.partition(' COLLATE')[0]}"
            values += [literal, literal]
        yield f"INSERT INTO public.{name} VALUES ({', '.join(values)});"
    yield f"CREATE ROLE {ROLE} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE};"


RESTRICTION = Restriction(
    name="zoo",
    role=ROLE,
    unreviewed="mask",
    columns=[{"table": f"public.{name}", "column": "*", "class": f"zoo.{name}"} for name in MASKS],
    masks=[{"class": f"zoo.{name}", "mask": mask} for name, mask in MASKS.items()],
    actions=["select", "copyOut"],
)


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Connection, Connection]]:
    """A session straight to the server, and one through Sluice."""
    with RESTRICTION.running("\n".join(_tables())) as here, contextlib.ExitStack() as stack:
        made = [Connection(one.host, one.port, user=ROLE, dbname="zoo") for one in here]
        for connection in made:
            stack.callback(connection.close)
        yield made[0], made[1]


def _ask(connection: Connection, data: bytes) -> list[Message]:
    connection.send(data)
    return connection.receive(1)


def _fields(row: bytes) -> list[bytes | None]:
    at, fields = 2, list[bytes | None]()
    while at < len(row):
        length = int.from_bytes(row[at : at + 4], "big", signed=True)
        at += 4
        fields.append(None if length < 0 else row[at : at + length])
        at += max(length, 0)
    return fields


@pytest.mark.parametrize("form", [0, 1], ids=["text", "binary"])
@pytest.mark.parametrize("table", MASKS)
def test_masked_columns_keep_name_type_and_modifier(
    both: tuple[Connection, Connection], table: str, form: int
) -> None:
    plain, through = both
    for i, kind in enumerate(TYPES):
        sql = f"SELECT n{i}, m{i} FROM {table}"
        answers = [_ask(one, extended(sql, result_format=form)) for one in (plain, through)]
        rows = [[body for k, body in answer if k == "D"] for answer in answers]
        shapes = [[described(body) for k, body in answer if k == "T"] for answer in answers]
        assert not errors([answers[1]]), (kind, errors([answers[1]]))
        assert shapes[0] == shapes[1], kind
        raw, masked = _fields(rows[0][0]), _fields(rows[1][0])
        assert masked[1] is not None, f"{kind} NOT NULL"
        assert (masked[0] is None) == (table == "nothing" and kind != "public.must_t"), kind
        assert raw[1] not in masked, f"{kind}: {raw[1]!r}"


def test_copy_of_every_type_shows_masks(both: tuple[Connection, Connection]) -> None:
    plain, through = both
    for table in MASKS:
        for options in ("", " WITH (FORMAT csv)"):
            told = [
                _ask(one, query(f"COPY {table} TO STDOUT{options}")) for one in (plain, through)
            ]
            assert not errors([told[1]])
            one, two = (b"".join(body for k, body in answer if k == "d") for answer in told)
            assert one != two
            assert b"canary@leak.example" in one
            assert b"canary" not in two
        binary = _ask(through, query(f"COPY {table} TO STDOUT WITH (FORMAT binary)"))
        assert not errors([binary])
        assert b"canary" not in b"".join(body for k, body in binary if k == "d")
