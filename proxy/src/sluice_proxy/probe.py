"""The one question that Sluice asks the server on a client's own connection: the state of its session.

Everything is qualified, so that nothing a role may create answers in its place. The row is in text format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sluice_proxy.decisions import TemporaryRelation
from sluice_proxy.reports import ClientError, ErrorReport, SqlState

TEMPORARY_BYTES_MAX: Final = 8 << 20
"""Of the description of the session's temporary relations: some thousand tables."""

PROBE_SQL: Final = """\
SELECT session_user::pg_catalog.text, current_user::pg_catalog.text,
 pg_catalog.array_to_json(pg_catalog.current_schemas(true))::pg_catalog.text,
 pg_catalog.current_setting('standard_conforming_strings'),
 pg_catalog.current_setting('client_encoding'),
 pg_catalog.current_setting('server_version_num'),
 (SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_namespace n
   WHERE n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()),
 (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.relname, c.relkind,
   (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid
      AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped),
   CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'v' THEN
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.oid, d.refobjsubid, CASE WHEN
       t.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() THEN t.relname END))
     FROM pg_catalog.pg_rewrite r, pg_catalog.pg_depend d, pg_catalog.pg_class t
     WHERE r.ev_class OPERATOR(pg_catalog.=) c.oid
      AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
      AND d.objid OPERATOR(pg_catalog.=) r.oid
      AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
      AND t.oid OPERATOR(pg_catalog.=) d.refobjid AND t.oid OPERATOR(pg_catalog.<>) c.oid) END))::pg_catalog.text
  FROM pg_catalog.pg_class c
  WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
   AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,p,f,S}'::pg_catalog."char"[])),
 (SELECT pg_catalog.count(*)::pg_catalog.text FROM pg_catalog.pg_cursor() k WHERE k.is_holdable),
 pg_catalog.current_setting('transform_null_equals'),
 CASE WHEN pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL THEN
  (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(c.oid::pg_catalog.int8, n.nspname, c.relname, c.relkind,
    (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
      WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid
       AND a.attnum OPERATOR(pg_catalog.>) 0::pg_catalog.int2 AND NOT a.attisdropped)))::pg_catalog.text
   FROM pg_catalog.pg_class c, pg_catalog.pg_namespace n
   WHERE pg_catalog.age(c.xmin) OPERATOR(pg_catalog.<=) 0 AND n.oid OPERATOR(pg_catalog.=) c.relnamespace
    AND c.relpersistence OPERATOR(pg_catalog.<>) 't'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i, pg_catalog.pg_class k
     WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid AND k.oid OPERATOR(pg_catalog.=) i.inhrelid
      AND pg_catalog.age(k.xmin) OPERATOR(pg_catalog.>) 0)
    AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,S}'::pg_catalog."char"[])) END,
 pg_catalog.current_setting('search_path')"""
"""One SELECT. ``current_schemas(true)`` has the implicit schemas where PostgreSQL searches them."""

_COLUMNS: Final = 12
_NAMED = re.compile(r'"((?:[^"]|"")*)"|([^,\s"]+)')
"""A schema in the text of search_path."""


@dataclass(frozen=True, slots=True)
class NewRelation:
    """A table, view or sequence that stays and whose catalog row is no older than the present transaction."""

    oid: int
    schema: str
    name: str
    kind: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SessionProbe:
    """The state of a session on the server."""

    session_user: str
    current_user: str
    search_path: tuple[str, ...]
    """As PostgreSQL searches it; the session's own temporary schema is called ``pg_temp``."""
    unsearched: tuple[str, ...]
    """What the setting names beside it: schemas that are not there, or that the session may not use, as yet."""
    server_major: int
    temporary: Mapping[str, TemporaryRelation]
    holdable_cursors: int
    new: tuple[NewRelation, ...]
    """What the present transaction made; others may have made, or only changed, some of it in the meantime."""


def parse_probe(row: Sequence[bytes | None]) -> SessionProbe:
    """Return the state that the probe's row describes.

    Raises:
        ClientError: The row is not the probe's, or the session is in a state that cannot be governed.
    """
    try:
        return _parse(row)
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise ClientError(
            ErrorReport(
                sqlstate=SqlState.FEATURE_NOT_SUPPORTED,
                message="the state of the session cannot be read from the server",
                detail=f"{type(error).__name__} in the answer to Sluice's own question.",
                hint="Ask the administrator whether the server is a PostgreSQL of a supported version.",
            )
        ) from error


def _parse(row: Sequence[bytes | None]) -> SessionProbe:
    if len(row) != _COLUMNS:
        raise ValueError("wrong number of columns")
    if sum(len(value or b"") for value in row) > TEMPORARY_BYTES_MAX:
        raise ClientError(
            ErrorReport(
                sqlstate=SqlState.PROGRAM_LIMIT_EXCEEDED,
                message="the session has too many temporary tables",
                hint="Drop those that are not needed any more.",
            )
        )
    fields = [None if value is None else value.decode() for value in row]
    _require("standard_conforming_strings", fields[3], "on")
    _require("client_encoding", fields[4], "UTF8")
    _require("transform_null_equals", fields[9], "off")
    temporary_schema = fields[6]
    path = tuple(
        "pg_temp" if schema == temporary_schema else str(schema)
        for schema in json.loads(fields[2] or "")
    )
    return SessionProbe(
        session_user=_text(fields[0]),
        current_user=_text(fields[1]),
        search_path=path,
        unsearched=_unsearched(_text(fields[11]), path, _text(fields[1])),
        server_major=int(_text(fields[5])) // 10000,
        temporary=_temporary(json.loads(fields[7]) if fields[7] else []),
        holdable_cursors=int(_text(fields[8])),
        new=tuple(_new(json.loads(fields[10]) if fields[10] else [])),
    )


def _unsearched(setting: str, searched: Sequence[str], user: str) -> tuple[str, ...]:
    named = (
        quoted.replace('""', '"') if quoted else bare.lower()
        for quoted, bare in _NAMED.findall(setting)
    )
    schemas = (user if name == "$user" else name for name in named)
    return tuple(name for name in dict.fromkeys(schemas) if name not in (*searched, "pg_temp"))


def _new(items: Sequence[Any]) -> Iterator[NewRelation]:
    for oid, schema, name, kind, columns in items:
        yield NewRelation(int(oid), str(schema), str(name), str(kind), tuple(columns or ()))


def _temporary(items: Sequence[Any]) -> dict[str, TemporaryRelation]:
    return {
        str(name): TemporaryRelation(
            str(name), str(kind), tuple(columns or ()), *_read(reads or ())
        )
        for name, kind, columns, reads in items
    }


def _read(reads: Sequence[Any]) -> tuple[frozenset[tuple[int, int]], frozenset[str]]:
    """Return what a view reads: columns of the database's relations, and the session's own temporary ones."""
    lasting = frozenset((int(oid), int(column)) for oid, column, own in reads if own is None)
    return lasting, frozenset(str(own) for _, _, own in reads if own is not None)


def _text(value: str | None) -> str:
    if value is None:
        raise ValueError("a column is null")
    return value


def _require(setting: str, value: str | None, needed: str) -> None:
    if value != needed:
        raise ClientError(
            ErrorReport(
                sqlstate=SqlState.FEATURE_NOT_SUPPORTED,
                message=f'the setting "{setting}" must be {needed} in a governed session',
                detail=f"It is {value} here; it changes how statements are read.",
                hint=f"Connect with {setting}={needed}, or change the default of the role or database.",
            )
        )
