"""Expressions of policies are SQL by strangers: what comes out is closed and qualified, or refused."""

import json
import re

import pglast
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_policy.expressions import Refusal, compile_filter, compile_mask


def tables(name):
    return None if name.startswith("public.") else f"the sub-select reads {name}"


def text_of(parts):
    return "".join(
        part if isinstance(part, str) else 's."' + part["column"].replace('"', '""') + '"'
        for part in parts
    )


def filter_of(text):
    return compile_filter(text, tables)


CANONICAL = {
    "region = 'eu'": """(s."region" OPERATOR(pg_catalog.=) 'eu')""",
    "Region = 'it''s'": """(s."region" OPERATOR(pg_catalog.=) 'it''s')""",
    '"Strange ""Name" = 1': """(s."Strange ""Name" OPERATOR(pg_catalog.=) 1)""",
    "tenant = current_setting('app.t')::int":
        """(s."tenant" OPERATOR(pg_catalog.=) ((SELECT pg_catalog.current_setting('app.t'))::pg_catalog.int4))""",
    "a != -5": '(s."a" OPERATOR(pg_catalog.<>) (-5))',
    "a BETWEEN 1 AND 2":
        '((s."a" OPERATOR(pg_catalog.>=) 1) AND (s."a" OPERATOR(pg_catalog.<=) 2))',
    "a NOT IN (1, 2)": '((s."a" OPERATOR(pg_catalog.<>) 1) AND (s."a" OPERATOR(pg_catalog.<>) 2))',
    "a LIKE 'x\\%%'": """(s."a" OPERATOR(pg_catalog.~~)  E'x\\\\%%')""",
    "a IS NOT NULL OR NOT b": '((s."a" IS NOT NULL) OR (NOT s."b"))',
    "a = ANY (ARRAY['x', 'y'])": """(s."a" OPERATOR(pg_catalog.=) ANY (ARRAY['x', 'y']))""",
    "a IN (SELECT u.b FROM public.users u WHERE u.c = 1)":
        '(s."a" OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT f1."b" FROM "public"."users" f1 '
        'WHERE (f1."c" OPERATOR(pg_catalog.=) 1))))',
    "a = ANY (ARRAY(SELECT b FROM public.users))":
        '(s."a" OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT f1."b" FROM "public"."users" f1)))',
    "CASE kind WHEN 'a' THEN true ELSE false END":
        """(CASE WHEN (s."kind" OPERATOR(pg_catalog.=) 'a') THEN TRUE ELSE FALSE END)""",
    "lower(name) = session_user": '(pg_catalog.lower(s."name") OPERATOR(pg_catalog.=) SESSION_USER)',
    "pg_catalog.lower(name) OPERATOR(pg_catalog.=) 'x'":
        """(pg_catalog.lower(s."name") OPERATOR(pg_catalog.=) 'x')""",
    "day >= date '2024-01-01'":
        """(s."day" OPERATOR(pg_catalog.>=) (('2024-01-01')::pg_catalog.date))""",
    "true": "(TRUE)",
    "visible": '(s."visible")',
}  # fmt: skip


@pytest.mark.parametrize(("text", "canonical"), CANONICAL.items())
def test_filter_is_written_in_canonical_form(text, canonical):
    assert text_of(filter_of(text)) == canonical


MASKS = {
    "left(value, 1) || '***'": """(pg_catalog.textcat(pg_catalog.left(s."value", 1), '***'))""",
    "round(salary / 1000) * 1000":
        '(pg_catalog.round((s."salary" OPERATOR(pg_catalog./) 1000)) OPERATOR(pg_catalog.*) 1000)',
    "CASE WHEN consent THEN value END": '(CASE WHEN s."consent" THEN s."value" END)',
    "coalesce(nullif(value, ''), '?')":
        """(COALESCE((CASE WHEN (s."value" OPERATOR(pg_catalog.=) '') THEN NULL ELSE s."value" END), '?'))""",
    "regexp_replace(value, '[0-9]', '#', 'g')":
        """(pg_catalog.regexp_replace(s."value", '[0-9]', '#', 'g'))""",
    "position('@' in value)": """(pg_catalog.strpos(s."value", '@'))""",
    "trim(value)": '(pg_catalog.btrim(s."value"))',
    "NULL": "(NULL)",
}  # fmt: skip


@pytest.mark.parametrize(("text", "canonical"), MASKS.items())
def test_mask_is_written_in_canonical_form(text, canonical):
    assert text_of(compile_mask(text)) == canonical


@pytest.mark.parametrize("text", CANONICAL)
def test_canonical_form_is_accepted_again_unchanged(text):
    parts = filter_of(text)
    again = "".join(
        p if isinstance(p, str) else '"' + p["column"].replace('"', '""') + '"' for p in parts
    )
    assert filter_of(again) == parts


HOSTILE = {
    "1=1) OR (1=1": "syntax error",
    "1=1)) OR ((1=1": "syntax error",
    "a = 1 -- and b": "comments",
    "a = 1 /* x */": "comments",
    "a = 1; DROP TABLE users": "semicolon",
    "a = 1;": "semicolon",
    "a = $1": "parameters",
    "a = 1, b = 2": "exactly one expression",
    "a = 1 AS x": "without a name",
    "a = 1 FROM public.users": "nothing of a statement",
    "a = 1 LIMIT 1": "nothing of a statement",
    "a = 1 ORDER BY 1": "nothing of a statement",
    "a = 1 UNION SELECT true": "nothing of a statement",
    "a = 1 INTO x": "nothing of a statement",
    "DISTINCT a": "nothing of a statement",
    "*": "no single value",
    "users.*": "no single value",
    "random() < 0.5": "volatile",
    "nextval('s') > 0": "volatile",
    "set_config('app.x', 'y', false) = 'y'": "volatile",
    "pg_sleep(1) IS NULL": "volatile",
    "pg_read_file('/etc/passwd') = ''": "not on the list",
    "query_to_xml('select 1', true, false, '') IS NULL": "not on the list",
    "dblink('x', 'y') IS NULL": "not on the list",
    "lo_get(1) IS NULL": "not on the list",
    "public.lower(name) = 'x'": "not PostgreSQL's own",
    "a OPERATOR(public.=) 1": "not PostgreSQL's own",
    "a === 1": "not on the list",
    "a::public.email = 'x'": "not PostgreSQL's own",
    "'users'::regclass IS NOT NULL": "not on the list",
    "'x'::citext = a": "not on the list",
    "a::text = '1'": "cannot be cast",
    "a::int = 1": "cannot be cast",
    "count(*) > 1": "aggregates",
    "sum(a) OVER () > 1": "aggregates",
    "row_number() OVER (ORDER BY a) = 1": "aggregates",
    "EXISTS (SELECT 1 FROM public.users)": "sub-selects are written",
    "(SELECT true)": "sub-selects are written",
    "(SELECT a FROM public.users) = 1": "sub-selects are written",
    "a IN (SELECT b FROM secret.keys)": "the sub-select reads secret.keys",
    "a IN (SELECT b FROM other.public.users)": "one plain table",
    "a IN (SELECT b FROM users)": "write schema.users",
    "a IN (SELECT rolname FROM pg_catalog.pg_authid)": "cannot read",
    "a IN (SELECT b FROM pg_temp.users)": "cannot read",
    "a IN (SELECT table_name FROM information_schema.tables)": "cannot read",
    "a IN (SELECT b FROM public.u, public.v)": "one column of one table",
    "a IN (SELECT b FROM public.u JOIN public.v ON true)": "one plain table",
    "a IN (SELECT b FROM (SELECT 1 AS b) x)": "one plain table",
    "a IN (SELECT b FROM pg_sleep(1) b)": "one plain table",
    "a IN (SELECT lower(b) FROM public.u)": "one column of one table",
    "a IN (SELECT b FROM public.u WHERE c IN (SELECT d FROM public.v))": "inside a sub-select",
    "a IN (SELECT b FROM public.u FOR UPDATE)": "SELECT, FROM and WHERE alone",
    "a IN (SELECT b FROM public.u ORDER BY 1)": "SELECT, FROM and WHERE alone",
    "a IN (WITH x AS (DELETE FROM public.u RETURNING 1) SELECT b FROM public.u)":
        "SELECT, FROM and WHERE alone",
    "a IN (VALUES (1))": "SELECT, FROM and WHERE alone",
    "a IN (SELECT b FROM public.u UNION SELECT 1)": "SELECT, FROM and WHERE alone",
    "a IN (SELECT v.b FROM public.u)": "no column of the sub-select's table",
    "a > ALL (SELECT b FROM public.u)": "sub-selects are written",
    "a > ANY (ARRAY[1])": "ANY goes with = alone",
    "users.region = 'eu'": "write region, not users.region",
    "xmin = 1": "system column",
    "ctid IS NOT NULL": "system column",
    "a COLLATE \"x\" = 'y'": "COLLATE",
    "(a, b) = (1, 2)": "a row",
    "(a).b = 1": "subscript or field",
    "a[1] = 1": "subscript or field",
    "a = 1 / b": "divisor",
    "a / 0 = 1": "divisor",
    "a % b = 1": "divisor",
    "a LIKE b": "literal pattern",
    "a LIKE 'x\\'": "single backslash",
    "a LIKE 'x!%' ESCAPE '!'": "no ESCAPE",
    "a SIMILAR TO 'x'": "SIMILAR",
    "a ~ b": "must be a literal",
    "current_setting(a) = 'x'": "literal name",
    "current_setting('search_path') = 'x'": "which have a dot",
    "current_setting('app.x', b) = 'x'": "true or false",
    "current_date > d": "session settings",
    "now()::date > d": "TimeZone",
    "date_trunc('year', d) = d": "TimeZone",
    "to_char(d, 'YYYY') = '2024'": "session settings",
    "md5(a) = 'x'": "unkeyed hash",
    "concat(a, b) = 'x'": "session settings",
    "repeat('x', 100000000) = a": "argument 2 of repeat",
    "substr(a, 1, length(a) - 5) = 'x'": "argument 3 of substr",
    "lower(VARIADIC a) = 'x'": "named arguments",
    "lower(x => a) = 'x'": "named arguments",
    "system_user = 'x'": "not on the list",
    "b'1' = a": "literal",
    "xmlparse(document a) IS NULL": "XML",
    "DEFAULT": "DEFAULT cannot",
    "a NOT BETWEEN SYMMETRIC 1 AND 2": "SYM",
    "born > date '01/02/2024'": "2024-01-31",
    "born > '01/02/2024'": "2024-01-31",
    "born > date 'today'": "2024-01-31",
    "at > timestamptz '2024-01-31 12:00'": "12:00+00",
    "at > timestamptz 'now'": "12:00+00",
    "at > now() - interval '-1 2:03'": "90 days",
    "current_setting('app.d')::date > d": "times are literals",
    "d = ANY ('{01/02/2024}'::date[])": "arrays of times",
    "'eu'": "is a condition",
    "name || 1 = 'x1'": "joins texts",
    "name || now() = 'x'": "joins texts",
    "lower(a)": "is a condition",
    "a + 1": "is a condition",
    "lower(a) AND b": "conditions, not values",
    "": "exactly one",
    "   ": "exactly one",
    "a = '\x01'": "control characters",
    "a = \x00": "control characters",
    "a = U&'\\0000'": "not an SQL expression",
    "(" * 100 + "a" + ")" * 100: "nested",
    "NOT " * 200 + "a": "nested",
    " OR ".join(["a"] * 600): "more than",
    "a IN (" + ",".join(map(str, range(300))) + ")": "more than 256",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_filter_is_refused_with_its_reason(text):
    found = filter_of(text)
    assert isinstance(found, Refusal), found
    assert HOSTILE[text] in found.message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("now()", "not immutable"),
        ("current_user", "not immutable"),
        ("current_setting('app.x')", "not immutable"),
        ("a IN (SELECT b FROM public.users)", "no sub-select"),
        ("(SELECT 1)", "sub-selects"),
        ("value::text", "cannot be cast"),
        ("random()", "volatile"),
        ("1000 / (salary - 500)", "divisor"),
        ("public.f(value)", "not PostgreSQL's own"),
        ("users.value", "write value"),
    ],
)
def test_mask_is_immutable_and_sees_its_own_row_alone(text, reason):
    found = compile_mask(text)
    assert isinstance(found, Refusal)
    assert reason in found.message


def test_large_results_of_rewriting_are_refused():
    nested = "a"
    for _ in range(12):
        nested = f"CASE {nested} WHEN 1 THEN 2 WHEN 3 THEN 4 WHEN 5 THEN 6 END"
    assert isinstance(compile_mask(nested), Refusal)


# --- nothing that is inside a name or a literal gets out of it


names = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=20
).filter(lambda name: name not in {"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid", "oid"})
strings = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def single(text):
    return "'" + text.replace("'", "''") + "'"


def printable(text):
    return not any(ch < " " and ch not in "\t\n\r" for ch in text)


@given(names.filter(printable), strings.filter(printable))
def test_names_and_literals_never_escape(name, literal):
    parts = filter_of(f"{quoted(name)} = {single(literal)}")
    assert not isinstance(parts, Refusal)
    columns = [part["column"] for part in parts if not isinstance(part, str)]
    assert columns == [name] or len(name.encode()) > 63
    (statement,) = pglast.parse_sql(f"SELECT {text_of(parts)}")
    assert statement.stmt.targetList[0].val.rexpr.val.sval == literal


@given(st.text(max_size=60))
def test_any_text_is_compiled_or_refused(text):
    for found in (filter_of(text), compile_mask(text)):
        if not isinstance(found, Refusal):
            check_closed(found)


fragments = st.sampled_from(
    ["a", "b", "1", "'x'", "(", ")", "=", "OR", "AND", "NOT", "--", "/*", "*/", ";", ",", "'", '"', "$1",
     "lower(", "public.", "::int", "::text", "SELECT", "FROM public.users", "IN (", "CASE", "WHEN",
     "THEN", "END", "LIKE", "||", "NULL", "IS", "E'\\'", "current_setting('a.b')", "now()", "*"]
)  # fmt: skip


@given(st.lists(fragments, max_size=12).map(" ".join))
def test_any_mixture_of_sql_is_compiled_or_refused(text):
    for found in (filter_of(text), compile_mask(text)):
        if not isinstance(found, Refusal):
            check_closed(found)


def check_closed(parts):
    """The parts are one parenthesised expression, and everything named in it is pg_catalog's."""
    text = text_of(parts)
    assert text.startswith("(")
    assert text.endswith(")")
    (statement,) = pglast.parse_sql(f"SELECT {text} AS x, 1")
    assert len(statement.stmt.targetList) == 2
    (alone,) = pglast.parse_sql(
        f"SELECT CASE WHEN {text} THEN 1 END FROM t s WHERE {text} AND true"
    )
    assert alone.stmt.whereClause.boolop.name == "AND_EXPR"
    check_qualified(json.loads(pglast.parser.parse_sql_json(f"SELECT {text}")))


def check_qualified(node):
    if isinstance(node, list):
        for item in node:
            check_qualified(item)
    elif isinstance(node, dict):
        for kind, key in (("FuncCall", "funcname"), ("A_Expr", "name"), ("TypeCast", "typeName")):
            if kind in node:
                names = node[kind][key]
                names = names["names"] if isinstance(names, dict) else names
                assert names[0]["String"]["sval"] == "pg_catalog", node
                assert kind != "A_Expr" or node[kind]["kind"] in ("AEXPR_OP", "AEXPR_OP_ANY")
        assert not {"ParamRef", "A_Star", "RowExpr"} & set(node)
        for value in node.values():
            check_qualified(value)


def test_no_reason_shows_a_python_object():
    for text in HOSTILE:
        found = filter_of(text)
        assert not re.search(r"<|0x|object at", found.message), found.message
