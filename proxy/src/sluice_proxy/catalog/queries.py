"""SQL texts of the catalog reader. Each runs under an empty ``search_path``."""

from __future__ import annotations

SNAPSHOT = (
    "SELECT pg_catalog.pg_current_snapshot()::text, "
    "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()::text END"
)
"""Unchanged: no transaction with an id has ended in between, so there was no DDL (SQL.md §4). Its upper bound alone
would not do: it stays when a transaction ends after one that began later. On a standby the snapshot does not list what
runs between its bounds, so how far it has come counts."""

_APART = """
WITH relations AS MATERIALIZED (
       SELECT oid FROM pg_catalog.pg_class
       WHERE relpersistence = 't' OR relnamespace = 'pg_toast'::pg_catalog.regnamespace),
     schemas AS MATERIALIZED (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_(toast_)?temp_')
"""
"""No catalog holds what is temporary, nor TOAST tables, which REFRESH and VACUUM FULL make anew. Sessions that do so
all day must not keep the catalog from ever being read."""


def _relation(oid: str) -> str:
    return f"NOT EXISTS (SELECT FROM relations r WHERE r.oid = {oid})"


def _schema(oid: str) -> str:
    return f"NOT EXISTS (SELECT FROM schemas n WHERE n.oid = {oid})"


_WATCHED = {
    "pg_attribute": "attnum > 0 AND " + _relation("attrelid"),
    "pg_inherits": _relation("inhrelid"),
    "pg_rewrite": _relation("ev_class"),
    "pg_proc": _schema("pronamespace"),
    "pg_operator": _schema("oprnamespace"),
    "pg_constraint": _schema("connamespace"),
    "pg_index": _relation("indrelid"),
    "pg_type": _schema("typnamespace"),
    "pg_namespace": _schema("w.oid"),
    "pg_attrdef": _relation("adrelid"),
    "pg_enum": "true",
    "pg_trigger": _relation("tgrelid"),
    "pg_extension": "true",
    "pg_statistic_ext": _relation("stxrelid"),
    "pg_sequence": _relation("seqrelid"),
    "pg_policy": _relation("polrelid"),
    "pg_collation": _schema("collnamespace"),
    "pg_cast": "true",
    "pg_opclass": _schema("opcnamespace"),
    "pg_depend": "refclassid = 3079 AND deptype = 'e'",
}
"""What the rest of this module reads, and which of its rows count."""

_CHANGES = (
    "SELECT '{0}' AS catalog, pg_catalog.count(*) AS n, "
    "pg_catalog.sum(xmin::pg_catalog.text::pg_catalog.int8)::pg_catalog.text AS s "
    "FROM pg_catalog.{0} w WHERE {1}"
)
_CHANGES_OF_RELATIONS = f"""
SELECT 'pg_class', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hash_record_extended(ROW(
  oid, relname, relnamespace, reltype, reloftype, relowner, relam, relpersistence, relkind, relnatts, relchecks,
  relhasrules, relhastriggers, relhassubclass, relrowsecurity, relforcerowsecurity, relispartition, relacl,
  reloptions), 0))::pg_catalog.text
FROM pg_catalog.pg_class w WHERE {_relation("w.oid")}
"""
"""What TRUNCATE, VACUUM and REFRESH write in a relation's row is where its data is and how much: no definition."""

CHANGES = _APART + " UNION ALL ".join(
    [*(_CHANGES.format(name, rows) for name, rows in _WATCHED.items()), _CHANGES_OF_RELATIONS]
)
"""A row version that replaces another carries a later transaction id, and one that goes changes the
count: two equal answers mean equal definitions (short of a wrap-around of transaction ids)."""

SERVER = """
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4 / 10000 AS major,
       pg_catalog.current_database()::pg_catalog.text AS database
"""

SCHEMAS = """
SELECT oid, nspname::text AS name FROM pg_catalog.pg_namespace
WHERE nspname !~ '^pg_(toast_)?temp_'
"""

EXTENSIONS = """
SELECT e.extname::text AS name, n.nspname::text AS schema
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
"""

TYPES = """
SELECT t.oid, n.nspname::text AS schema, t.typname::text AS name,
       pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname) AS sql,
       t.typtype::text AS kind, t.typcategory::text AS category, t.typbasetype AS base,
       t.typtypmod AS typmod, t.typelem AS elem, t.typarray AS array_oid, t.typrelid AS relation,
       t.typcollation AS collation, t.typnotnull AS not_null,
       (SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid
        ORDER BY e.enumsortorder LIMIT 1) AS enum_first,
       CASE WHEN t.typtype = 'd' THEN
         ARRAY(SELECT pg_catalog.pg_get_expr(c.conbin, 0) FROM pg_catalog.pg_constraint c
               WHERE c.contypid = t.oid AND c.contype = 'c' ORDER BY c.conname) END AS checks
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname !~ '^pg_(toast_)?temp_'
"""

TYPES_WITH_EQUALITY = """
SELECT o.opcintype AS oid FROM pg_catalog.pg_opclass o
JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod
WHERE o.opcdefault AND a.amname IN ('btree', 'hash')
UNION
SELECT c.castsource FROM pg_catalog.pg_cast c
JOIN pg_catalog.pg_opclass o ON o.opcintype = c.casttarget AND o.opcdefault
JOIN pg_catalog.pg_am a ON a.oid = o.opcmethod AND a.amname IN ('btree', 'hash')
WHERE c.castmethod = 'b' AND c.castcontext = 'i'
"""

TYPMODS = """
SELECT DISTINCT a.atttypid AS type, a.atttypmod AS typmod,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS text
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE a.atttypmod <> -1 AND a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't'
UNION
SELECT t.typbasetype, t.typtypmod, pg_catalog.format_type(t.typbasetype, t.typtypmod)
FROM pg_catalog.pg_type t WHERE t.typtype = 'd' AND t.typtypmod <> -1
"""

COLLATIONS = """
SELECT c.oid, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.collname) AS sql
FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
"""

RELATIONS = """
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c') AND c.relpersistence <> 't'
"""

ATTRIBUTES = """
SELECT a.attrelid AS relation, a.attnum AS number, a.attname::text AS name, a.atttypid AS type,
       a.atttypmod AS typmod, a.attcollation AS collation, a.attnotnull AS not_null,
       a.attgenerated::text AS generated, a.attidentity::text AS identity,
       CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END AS default_sql
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_catalog.pg_attrdef d ON a.atthasdef AND d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't'
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c')
ORDER BY a.attrelid, a.attnum
"""

INHERITANCE = """
SELECT inhrelid AS child, inhparent AS parent FROM pg_catalog.pg_inherits
WHERE inhrelid NOT IN (SELECT oid FROM pg_catalog.pg_class WHERE relpersistence = 't')
"""

CONSTRAINTS = """
SELECT c.conrelid AS relation, c.contype::text AS kind, c.conkey AS columns, c.condeferrable AS deferrable,
       COALESCE(c.contype = 'f' AND (pg_catalog.to_jsonb(c) ->> 'conperiod')::pg_catalog.bool, false)
         OR EXISTS (SELECT FROM pg_catalog.unnest(c.conexclop) AS x(operator)
               JOIN pg_catalog.pg_operator o ON o.oid = x.operator AND o.oprname <> '=') AS overlaps,
       c.confrelid AS other, c.confkey AS other_columns,
       CASE WHEN c.confupdtype IN ('c', 'n', 'd') THEN 'u' ELSE '' END
         || CASE c.confdeltype WHEN 'c' THEN 'd' WHEN 'n' THEN 's' WHEN 'd' THEN 's' ELSE '' END AS acts
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class r ON r.oid = c.conrelid
WHERE r.relpersistence <> 't' AND c.contype IN ('c', 'f', 'p', 'u', 'x')
"""

INDEXES = """
SELECT i.indrelid AS relation,
       (SELECT x.relname::text FROM pg_catalog.pg_class x WHERE x.oid = i.indexrelid) AS name,
       i.indisunique OR i.indisexclusion AS is_key,
       i.indpred IS NOT NULL OR i.indexprs IS NOT NULL AS has_expressions, i.indisprimary AS primary,
       i.indkey::pg_catalog.int2[] AS columns,
       (SELECT pg_catalog.array_agg(d.refobjsubid) FROM pg_catalog.pg_depend d
        WHERE d.classid = 1259 AND d.objid = i.indexrelid AND d.refclassid = 1259
          AND d.refobjid = i.indrelid) AS reads
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
"""

PARTITION_KEYS = """
SELECT p.partrelid AS relation, p.partattrs::pg_catalog.int2[] AS columns,
       ARRAY(SELECT CASE WHEN d.refobjsubid > 0 THEN d.refobjsubid ELSE d.objsubid END
             FROM pg_catalog.pg_depend d
             WHERE d.classid = 1259 AND d.objid = p.partrelid AND d.refclassid = 1259
               AND d.refobjid = p.partrelid AND (d.refobjsubid > 0 OR (d.objsubid > 0 AND d.deptype = 'i'))
               AND p.partexprs IS NOT NULL) AS reads
FROM pg_catalog.pg_partitioned_table p
"""
"""What an expression of the key reads depends on the table there: columns of a key cannot be dropped."""

GENERATED = """
SELECT a.attrelid AS relation, a.attname::text AS name, d.refobjsubid AS reads
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
JOIN pg_catalog.pg_depend d ON d.refclassid = 1259 AND d.refobjid = a.attrelid
  AND d.refobjsubid <> a.attnum
  AND ((d.classid = 1259 AND d.objid = a.attrelid AND d.objsubid = a.attnum)
    OR (d.classid = 2604 AND d.objid = f.oid))
WHERE a.attgenerated <> '' AND NOT a.attisdropped AND c.relpersistence <> 't'
"""

RULES_AND_TRIGGERS = """
SELECT c.oid,
       EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid
               AND NOT (r.ev_type = '1' AND c.relkind IN ('v', 'm'))) AS has_rules,
       EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid
               AND NOT t.tgisinternal) AS has_triggers
FROM pg_catalog.pg_class c WHERE (c.relhasrules OR c.relhastriggers) AND c.relpersistence <> 't'
"""

SEQUENCE_OWNERS = """
SELECT d.objid AS sequence, d.refobjid AS relation, a.attname::text AS name
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S'
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 1259 AND d.refclassid = 1259 AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
"""

VIEWS = """
SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid) AS definition,
       ARRAY(SELECT DISTINCT d.refobjid FROM pg_catalog.pg_rewrite r
             JOIN pg_catalog.pg_depend d ON d.classid = 2618 AND d.objid = r.oid
             WHERE r.ev_class = c.oid AND d.refclassid = 1259 AND d.refobjid <> c.oid) AS relations,
       ARRAY(SELECT DISTINCT d.refobjid FROM pg_catalog.pg_rewrite r
             JOIN pg_catalog.pg_depend d ON d.classid = 2618 AND d.objid = r.oid
             WHERE r.ev_class = c.oid AND d.refclassid = 1255) AS functions
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""

FUNCTIONS = """
SELECT p.oid, n.nspname::text AS schema, p.proname::text AS name, p.pronargs AS argument_count,
       ARRAY(SELECT pg_catalog.format_type(a.type, NULL)
             FROM pg_catalog.unnest(p.proargtypes) WITH ORDINALITY AS a(type, position)
             ORDER BY a.position) AS arguments,
       p.prosecdef AND p.provolatile = 'i' AND p.prokind = 'f'
         AND p.prorettype = 'pg_catalog.text'::pg_catalog.regtype AS sealed,
       (SELECT e.extname::text FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 1255 AND d.objid = p.oid AND d.deptype = 'e' AND d.refclassid = 3079) AS extension
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast_)?temp_'
"""

BUILTIN_FUNCTIONS = """
SELECT pg_catalog.array_agg(DISTINCT p.proname::text) AS names FROM pg_catalog.pg_proc p
WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
"""

SET_FUNCTIONS = """
SELECT DISTINCT n.nspname::text AS schema, p.proname::text AS name
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.proretset
"""

OPERATORS = """
SELECT o.oprname::text AS name, n.nspname::text AS schema
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
WHERE n.nspname <> 'pg_catalog' AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_depend d
  WHERE d.classid = 2617 AND d.objid = o.oid AND d.deptype = 'e')
GROUP BY 1, 2
"""
