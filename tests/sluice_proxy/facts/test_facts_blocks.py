"""DO: a block of definitions is judged as its statements are; every other block is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_proxy import _native
from sluice_proxy.facts import read_facts
from sluice_proxy.facts.blocks import CAUGHT
from sluice_proxy.facts.model import StatementFacts
from sluice_proxy.reports import ClientError

Open = Callable[..., Any]

ENUM = """CREATE TYPE "public"."feeling" AS ENUM ('a', 'it''s; END')"""
FORMS = [
    f"DO $$ BEGIN {ENUM}; EXCEPTION WHEN duplicate_object THEN null; END $$;",
    (
        f"do $mood$\nbegin\n {ENUM};\nexception\n when Duplicate_Object or duplicate_table then NULL;\nend;\n"
        "$mood$ language plpgsql"
    ),
    f"DO LANGUAGE 'plpgsql' $$BEGIN /* ; END */ {ENUM} -- it; is\n; END$$",
    "DO 'BEGIN CREATE TYPE feeling AS ENUM (''a''); EXCEPTION WHEN unique_violation THEN NULL; END'",
    r"DO E'BEGIN\nCREATE TYPE feeling AS ENUM (\'a\');\nEXCEPTION\nWHEN SQLSTATE \'42710\' THEN NULL;\nEND;'",
    """DO $$ BEGIN CREATE TYPE feeling AS ENUM ('a'); COMMENT ON TYPE feeling IS $x$ END; $b0$ $$x$x$;
       EXCEPTION WHEN duplicate_object THEN NULL; WHEN undefined_object OR undefined_table THEN NULL; END $$""".replace(
        "$$x$x$", "$x$"
    ),
    """DO $$ BEGIN ALTER TABLE "orders" ADD CONSTRAINT "o_fk" FOREIGN KEY ("id") REFERENCES "public"."tree"("id")
       ON DELETE no action ON UPDATE no action; EXCEPTION WHEN duplicate_object THEN null; END $$;""",
    "DO $$ BEGIN ALTER TABLE orders ADD COLUMN memo text; EXCEPTION WHEN duplicate_column THEN NULL; END $$",
    """DO $$ BEGIN CREATE TABLE made (id serial PRIMARY KEY, up int REFERENCES made); CREATE INDEX i ON made (up);
       ALTER TABLE made ADD note text; END $$""",
    "DO $$ BEGIN CREATE TEMP TABLE made (id int); EXCEPTION WHEN duplicate_table THEN NULL; END $$",
    "DO $$ BEGIN DROP TYPE feeling; EXCEPTION WHEN undefined_object THEN NULL; END $$",
    f"""DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_type WHERE typname = 'feeling') THEN {ENUM}; END IF; END $$""",
    f"""do $$ begin if (exists(select from information_schema.columns c where c.table_name = 'orders' and
        column_name = 'memo' and table_schema = current_schema()) and not exists (select 1 from pg_catalog.pg_type t
        join pg_namespace n on n.oid = t.typnamespace where n.nspname = 'public' and case when true then true end))
        then alter table orders add column memo text; comment on table orders is 'x'; end if; {ENUM};
        if not exists (select 1 from pg_constraint where conname = 'x' and conrelid = 'orders'::regclass) then
        alter table orders add constraint x check (true); end if; exception when duplicate_object then null; end $$""",
    """DO $$ BEGIN IF EXISTS (SELECT 1 FROM pg_tables WHERE tablename = 'made') THEN CREATE TABLE made (id int);
       CREATE INDEX ON made (id); END IF; END $$""",
]


@pytest.mark.parametrize("sql", FORMS)
def test_block_of_definitions_is_put_together_anew(open_session: Open, sql: str) -> None:
    session = open_session()
    text = session.rewritten(sql)
    assert text.startswith("DO LANGUAGE plpgsql $b")
    assert _error(session, text) != "42601"


BODIES = """
CREATE TYPE f AS ENUM ('a'); PERFORM 1;
SELECT 1;
INSERT INTO orders VALUES (1, 1, 1);
UPDATE users SET note = email;
CREATE TABLE t AS SELECT * FROM users;
SELECT * INTO t FROM users;
CREATE VIEW v AS SELECT * FROM orders;
CREATE TEMP VIEW v AS SELECT * FROM users;
CREATE MATERIALIZED VIEW m AS SELECT * FROM orders;
IF true THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF NOT EXISTS (SELECT FROM pg_type WHERE found) THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF NOT EXISTS (SELECT FROM pg_type WHERE inline_code_block."found") THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF NOT EXISTS (SELECT FROM pg_type WHERE typname = SQLSTATE) THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF NOT EXISTS (SELECT FROM pg_type WHERE typname = $1) THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF NOT EXISTS (SELECT FROM pg_type FOR UPDATE) THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM users WHERE email LIKE 'a%') THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM orders) THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM pg_stats) THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM pg_type WHERE EXISTS (SELECT FROM users)) THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (WITH pg_type AS (SELECT 1) TABLE pg_type) THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM pg_type WHERE set_config('role', 'x', true) > '') THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM pg_type WHERE pg_read_file('x') <> '') THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM pg_type) FROM users THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM pg_type), 1 THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM pg_type) UNION SELECT true THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM pg_type) INTO x THEN CREATE TYPE f AS ENUM ('a'); END IF;
IF EXISTS (SELECT FROM pg_type) THEN END IF;
IF EXISTS (SELECT FROM pg_type) THEN CREATE TYPE f AS ENUM ('a'); END;
IF EXISTS (SELECT FROM pg_type) THEN CREATE TYPE f AS ENUM ('a'); ELSE DROP TYPE f; END IF;
IF EXISTS (SELECT FROM pg_type) THEN IF EXISTS (SELECT FROM pg_type) THEN CREATE TYPE f AS ENUM ('a'); END IF; END IF;
IF EXISTS (SELECT FROM pg_type) THEN UPDATE users SET note = email; END IF;
IF EXISTS (SELECT FROM pg_type) THEN ALTER TABLE users ADD x int; END IF;
IF EXISTS (SELECT FROM pg_type) THEN CREATE TABLE made (id int); END IF; ALTER TABLE made ADD secret text;
IF EXISTS (SELECT FROM pg_type) THEN CREATE TEMP TABLE orders (id int); END IF; ALTER TABLE orders ADD x int;
LOOP CREATE TYPE f AS ENUM ('a'); END LOOP;
EXECUTE 'CREATE TYPE f AS ENUM (''a'')';
RAISE NOTICE 'x';
CREATE TYPE f AS ENUM ('a'); COMMIT;
BEGIN CREATE TYPE f AS ENUM ('a'); END;
<<l>> CREATE TYPE f AS ENUM ('a');
SET search_path = tools;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION f();
CREATE RULE r AS ON INSERT TO orders DO ALSO NOTHING;
DO 'BEGIN END';
GRANT SELECT ON orders TO PUBLIC;
TRUNCATE orders;
ALTER TABLE users ADD COLUMN x int;
ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES users (id);
ALTER TABLE orders OWNER TO postgres;
ALTER TABLE orders ALTER memo TYPE text USING contact(memo);
CREATE INDEX i ON users (email);
DROP TABLE users;
DROP OWNED BY desk;
CREATE TYPE f AS ENUM ('a')
CREATE TYPE f AS ENUM ('a');;
;
NULL;

create := 1;
create.x := 1;
ALTER SYSTEM SET work_mem = '1MB';
CREATE EXTENSION postgres_fdw;
COMMENT ON TABLE users IS 'x';
"""
HANDLERS = """
WHEN others THEN NULL;
WHEN division_by_zero THEN NULL;
WHEN duplicate_object OR others THEN NULL;
WHEN duplicate_object OR raise_exception THEN NULL;
WHEN insufficient_privilege THEN NULL;
WHEN SQLSTATE '22012' THEN NULL;
WHEN duplicate_object THEN RAISE NOTICE 'x';
WHEN duplicate_object THEN RAISE;
WHEN duplicate_object THEN
WHEN duplicate_object THEN NULL; SELECT 1;
WHEN duplicate_object THEN NULL; PERFORM 1;
WHEN duplicate_object THEN NULL; NULL;
WHEN duplicate_object THEN NULL
WHEN duplicate_object THEN UPDATE users SET note = sqlerrm;
WHEN duplicate_object THEN NULL; WHEN others THEN NULL;

"""
MADE = "CREATE TYPE f AS ENUM ('a');"
WHOLE = [
    f"DO $$ DECLARE x int; BEGIN {MADE} END $$",
    f"DO $$ <<l>> BEGIN {MADE} END l $$",
    f"DO $$ BEGIN {MADE} END l $$",
    f"DO $$ BEGIN {MADE} END; SELECT 1 $$",
    f"DO $$ #variable_conflict use_column\nBEGIN {MADE} END $$",
    f"DO $$ {MADE} $$",
    f"DO $$ BEGIN {MADE} EXCEPTION $$",
    f"DO $$ BEGIN {MADE} $$",
    f"DO LANGUAGE plpython3u $$ BEGIN {MADE} END $$",
    f"DO LANGUAGE sql $$ BEGIN {MADE} END $$",
    f"DO LANGUAGE plpgsql LANGUAGE sql $$ BEGIN {MADE} END $$",
    f"DO $$ BEGIN {MADE} END $$ $$ SELECT 1 $$",
    "DO $$$$",
    "DO ''",
]
REFUSED = (
    [f"DO $$ BEGIN {body} END $$" for body in BODIES.strip("\n").split("\n")]
    + [f"DO $$ BEGIN {MADE} EXCEPTION {each} END $$" for each in HANDLERS.strip("\n").split("\n")]
    + WHOLE
)


@pytest.mark.parametrize("sql", REFUSED)
def test_every_other_block_is_refused(open_session: Open, sql: str) -> None:
    with pytest.raises(ClientError) as caught:
        read_facts(sql.encode(), open_session().context(), simple=True)
    assert caught.value.report.sqlstate.value in ("42501", "0A000", "42601", "42P01")


def test_refusal_says_what_a_block_may_hold(open_session: Open) -> None:
    with pytest.raises(ClientError) as caught:
        read_facts(b"DO $$ BEGIN PERFORM 1; END $$", open_session().context(), simple=True)
    report = caught.value.report
    assert (
        report.message
        == "permission denied for DO of a block with a statement that is no definition"
    )
    assert "definitions (CREATE, ALTER, DROP, COMMENT)" in str(report.detail)
    assert "by themselves" in str(report.hint)


@pytest.mark.parametrize(
    "sql",
    [
        (
            "DO $$ BEGIN CREATE TABLE IF NOT EXISTS made (id int); EXCEPTION WHEN duplicate_table THEN NULL; END $$; "
            "TABLE made"
        ),
        (
            "DO $$ BEGIN CREATE TEMP TABLE orders (card text); EXCEPTION WHEN duplicate_table THEN NULL; END $$; "
            "TABLE orders"
        ),
        "DO $$ BEGIN CREATE TEMP TABLE orders (x int); END $$; SELECT card FROM old.orders",
        (
            "DO $$ BEGIN DROP TABLE orders; CREATE TABLE orders (secret text); CREATE INDEX ON orders (secret); "
            "END $$; TABLE orders"
        ),
    ],
)
def test_nothing_stands_behind_a_block_that_may_have_made_a_table(
    open_session: Open, sql: str
) -> None:
    with pytest.raises(ClientError) as caught:
        read_facts(sql.encode(), open_session().context(), simple=True)
    assert "one by one" in str(caught.value.report.hint)


def test_types_are_used_behind_a_block_in_one_message(open_session: Open) -> None:
    sql = f"{FORMS[0]} CREATE TABLE felt (id int); SELECT id FROM people"
    assert len(read_facts(sql.encode(), open_session().context(), simple=True)) == 3


SPACE = st.sampled_from([" ", "\n", "\t ", " /* ; END $$ */ ", " -- BEGIN; it's\n"])
STATEMENT = st.sampled_from(
    [
        "CREATE{s}TYPE{s}feeling AS ENUM ('a;', 'b'' END')",
        "CREATE TYPE{s}old.feeling AS{s}ENUM ($q$;$q$)",
        "ALTER TYPE mood{s}ADD VALUE 'c'",
        "ALTER TABLE{s}\"orders\" ADD COLUMN{s}added text DEFAULT '; END'",
        "ALTER TABLE{s}users{s}ADD COLUMN added text",
        "ALTER TABLE orders{s}ADD FOREIGN KEY (id) REFERENCES tree{s}(id)",
        "ALTER TABLE orders ADD FOREIGN KEY (id){s}REFERENCES{s}users (id)",
        "CREATE TABLE{s}made{s}(id int{s}PRIMARY KEY, note text DEFAULT U&'\\0061')",
        "CREATE TABLE IF NOT EXISTS{s}made{s}(id int)",
        "CREATE TABLE{s}made2 (LIKE{s}users)",
        "CREATE{s}INDEX ON{s}orders (memo)",
        "CREATE INDEX ON users{s}(email)",
        "DROP{s}TABLE{s}IF EXISTS orders, nothing",
        "DROP TABLE{s}people",
        "COMMENT{s}ON TABLE orders IS{s}E'\\'; END'",
        "CREATE DOMAIN{s}d AS int{s}CHECK (value > 0)",
        "SELECT{s}1",
        "CREATE TABLE t{s}AS{s}TABLE users",
    ]
)
CONDITIONS = st.lists(st.sampled_from(sorted(CAUGHT)), max_size=3)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[list[str], str]:
    """Return the statements of a block, and a DO of it."""
    space = lambda: draw(SPACE)  # noqa: E731 - each place gets its own
    statements = [
        each.replace("{s}", draw(SPACE))
        for each in draw(st.lists(STATEMENT, min_size=1, max_size=3))
    ]
    inside = "".join(f"{space()}{each}{space()};" for each in statements)
    caught = draw(CONDITIONS)
    handlers = (
        f"EXCEPTION{space()}WHEN {' OR '.join(caught)}{space()}THEN{space()}NULL;" if caught else ""
    )
    body = f"{space()}BEGIN{inside}{space()}{handlers}{space()}END{draw(st.sampled_from(['', ';']))}{space()}"
    tag = "$tag_é$"
    quoted = draw(st.sampled_from([f"{tag}{body}{tag}", "'" + body.replace("'", "''") + "'"]))
    return statements, f"DO{space()}{quoted}"


def _judged(session: Any, sql: str) -> tuple[StatementFacts, ...] | None:
    try:
        return read_facts(sql.encode(), session.context(), simple=True)
    except ClientError:
        return None


@pytest.fixture
def desk(open_session: Open) -> Any:
    return open_session()


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(block=blocks())
def test_block_is_judged_as_its_statements_are(desk: Any, block: tuple[list[str], str]) -> None:
    statements, sql = block
    alone = _judged(desk, " ;\n".join(statements))
    inside = _judged(desk, sql)
    queries = any(each.startswith("SELECT") or "TABLE users" in each[-12:] for each in statements)
    if alone is None or queries:
        assert inside is None
        return
    assert inside is not None
    (facts,) = inside
    assert set(facts.actions) - {"select"} == {action for each in alone for action in each.actions}
    assert {use.name for use in facts.tables} == {use.name for each in alone for use in each.tables}
    assert all(
        use.written
        for use in facts.tables
        for each in alone
        for u in each.tables
        if u.name == use.name and u.written
    )
    text = " ;\n".join(statements).encode()
    edits = [_native.Edit(e.start, e.end, e.text.encode()) for each in alone for e in each.edits]
    rewritten = _native.apply_edits(text, edits).decode()
    (edit,) = facts.edits
    found = _words(edit.text.partition("BEGIN")[2])
    wanted = _words(rewritten)
    assert found[: len(wanted)] == wanted
    assert _error(desk, f"BEGIN; {edit.text}; ROLLBACK") != "42601"


def _words(sql: str) -> list[bytes]:
    text = sql.encode()
    return [text[token.start : token.end] for token in _native.tokens(text)]


def _error(session: Any, text: str) -> str | None:
    """Return what the server says of a block; the role may define nothing, so that nothing comes of it."""
    try:
        session.connection.execute(text.encode())
    except psycopg.Error as error:
        return error.sqlstate
    return None
