"""What is emitted means on a real server what was written, and nobody can put another function in its place."""

import psycopg
import pytest

from sluice_policy.allowed import FUNCTIONS, SETTING
from sluice_policy.expressions import Refusal, compile_filter, compile_mask

SCHEMA = """
CREATE TABLE people (id int PRIMARY KEY, name text, region varchar(8), salary numeric(12,2), born date,
                     active boolean, prefs jsonb, at timestamptz, kind text);
CREATE TABLE teams (person int, team text);
INSERT INTO people VALUES
  (1, 'Ann Lee', 'eu', 1234.5, '1990-05-17', true, '{"plan": "pro"}', '2024-01-01', 'a'),
  (2, 'bob', 'us', -5, '2001-01-01', false, '{}', '2020-06-01', 'b'),
  (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (4, 'O''Neil \\ %x_', 'eu', 0, 'infinity', true, '{"plan": null}', '1999-12-31', 'c');
INSERT INTO teams VALUES (1, 'red'), (4, 'blue');
CREATE TYPE colour AS ENUM ('red', 'blue');
ALTER TABLE people ADD shade colour;
UPDATE people SET shade = 'red' WHERE id IN (1, 2);
"""

FILTERS = [
    "region = 'eu'", "region <> 'eu'", "region IN ('eu', 'us')", "region NOT IN ('eu')", "salary > 0",
    "salary BETWEEN -10 AND 10", "salary NOT BETWEEN -10 AND 10", "name LIKE '%n%'", "name ILIKE 'ANN%'",
    "name NOT LIKE 'b_b'", "name LIKE '%\\\\%'", "name = 'O''Neil \\ %x_'", "name IS NULL", "active",
    "NOT active", "active IS NOT TRUE", "active IS UNKNOWN", "region IS DISTINCT FROM 'eu'",
    "region IS NOT DISTINCT FROM NULL", "born > date '1995-01-01'", "born < '1995-01-01'",
    "shade = 'red'", "shade IN ('red', 'blue')", "kind = ANY (ARRAY['a', 'b'])",
    "CASE kind WHEN 'a' THEN true WHEN 'b' THEN false ELSE active END",
    "id IN (SELECT person FROM public.teams WHERE team = 'red')",
    "id NOT IN (SELECT t.person FROM public.teams t)", "id = ANY (ARRAY(SELECT person FROM public.teams))",
    "prefs ->> 'plan' = 'pro'", "prefs @> '{}'", "coalesce(region, 'none') = 'none'",
    "nullif(region, 'eu') IS NULL", "greatest(salary, 0) = 0", "salary % 2 = 0", "-salary > 0",
    "id + 1 = 2 OR salary * 2 < 0 AND NOT active", "at > now() - interval '3 days'", "name ~ '^[A-Z]'",
    "session_user = 'postgres' OR region = 'eu'", "id = current_setting('app.id')::int",
    "region = current_setting('app.none', true)", "lower(name) || '!' = 'bob!'", "true", "false",
    "left(name, -2) = 'Ann L'", "length(name) = 3", "substring(name from 1 for 3) = 'Ann'",
    "position('e' in name) > 0", "trim(both 'b' from name) = 'o'", "starts_with(name, 'A')",
    "split_part(name, ' ', 2) = 'Lee'", "abs(salary) = 5", "round(salary, 0) = 1235",
]  # fmt: skip

MASKS = [
    "left(name, 1) || '***'", "upper(name)", "regexp_replace(name, '[a-z]', '#', 'g')",
    "round(salary / 1000) * 1000", "CASE WHEN active THEN name ELSE '?' END", "translate(name, 'aeiou', '*')",
    "rpad(left(name, 2), 5, '*')", "replace(name, region, '-')", "initcap(reverse(name))", "NULL",
    "coalesce(name, 'nobody')", "mod(id, 2)", "floor(salary / 100) * 100",
]  # fmt: skip


@pytest.fixture
def database(new_database):
    with psycopg.connect(new_database(SCHEMA), autocommit=True) as connection:
        connection.execute("SET app.id = '2'")
        yield connection


def text_of(parts):
    return "".join(p if isinstance(p, str) else f'"{p["column"]}"' for p in parts)


def answers(database, expression):
    return database.execute(f"SELECT id, {expression} AS x FROM people ORDER BY id").fetchall()


@pytest.mark.parametrize("group", range(4))
def test_filters_mean_what_was_written(database, group):
    for text in FILTERS[group::4]:
        parts = compile_filter(text, lambda _: None)
        assert not isinstance(parts, Refusal), (text, parts)
        assert answers(database, text_of(parts)) == answers(database, f"({text})"), text


def test_masks_mean_what_was_written(database):
    for text in MASKS:
        parts = compile_mask(text)
        assert not isinstance(parts, Refusal), (text, parts)
        assert answers(database, text_of(parts)) == answers(database, f"({text})"), text


def test_functions_operators_and_types_of_the_role_change_nothing(database):
    expressions = ["lower(name) = 'bob'", "region = 'eu'", "born > date '1995-01-01'",
                   "name || 'x' = 'bobx'", "region IN ('eu')", "region IS DISTINCT FROM 'eu'",
                   "CASE region WHEN 'eu' THEN true END", "nullif(region, 'eu') IS NULL"]  # fmt: skip
    compiled = [text_of(compile_filter(text, lambda _: None)) for text in expressions]
    before = [answers(database, text) for text in compiled]
    database.execute(
        """
        CREATE SCHEMA evil;
        CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'bob' $$;
        CREATE FUNCTION evil.yes(varchar, varchar) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
        CREATE FUNCTION evil.yes(varchar, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
        CREATE FUNCTION evil.both(text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'bobx' $$;
        CREATE OPERATOR evil.= (FUNCTION = evil.yes, LEFTARG = varchar, RIGHTARG = varchar);
        CREATE OPERATOR evil.= (FUNCTION = evil.yes, LEFTARG = varchar, RIGHTARG = text);
        CREATE OPERATOR evil.|| (FUNCTION = evil.both, LEFTARG = text, RIGHTARG = text);
        CREATE DOMAIN evil.date AS text;
        SET search_path = evil, public, pg_catalog;
        """
    )
    assert [answers(database, text) for text in compiled] == before
    raw = database.execute("SELECT count(*) FROM people WHERE lower(name) = 'bob'").fetchone()
    assert raw == (4,), "the fixture must be able to deceive unqualified names"


def test_allowed_functions_are_immutable_and_belong_to_postgres(database):
    wanted = {f.emitted or name: (f.least, f.most) for name, f in FUNCTIONS.items()}
    wanted[SETTING] = (1, 2)
    rows = database.execute(
        "SELECT proname, pronargs, provolatile::text FROM pg_proc "
        "WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY (%s)",
        (list(wanted),),
    ).fetchall()
    assert {name for name, _, _ in rows} == set(wanted)
    for name, count, kind in rows:
        least, most = wanted[name]
        if least <= count <= most:
            assert kind == ("s" if name == SETTING else "i"), (name, count)
