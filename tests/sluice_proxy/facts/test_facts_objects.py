"""Temporary views, sequences and tables that are tied together: they work, and show no more than queries do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from sluice_proxy.decisions import RowFilter
from sluice_proxy.facts import read_facts
from sluice_proxy.reports import ClientError

Open = Callable[..., Any]


def played(session: Any, statements: str) -> list[Any]:
    """Run statements of one session and roll them back; return rows, SQLSTATE or refusal of each."""
    out: list[Any] = []
    connection = session.connection
    connection.execute("BEGIN")
    try:
        for sql in statements.split(" ;; "):
            try:
                cursor = connection.execute(session.rewritten(sql))
                out.append(sorted(map(str, cursor.fetchall())) if cursor.description else "done")
            except ClientError as error:
                out.append(error.report.message)
                break
            except psycopg.Error as error:
                out.append(error.sqlstate)
                break
    finally:
        connection.execute("ROLLBACK")
    return out


SHOWN = """
CREATE TEMP VIEW v AS SELECT id, email, pay FROM users ;; SELECT * FROM v WHERE id < 4
CREATE OR REPLACE TEMPORARY VIEW v (a, b) AS SELECT id, upper(name) FROM users ORDER BY id ;; SELECT b FROM v LIMIT 3
CREATE TEMP VIEW pg_temp.v WITH (security_barrier) AS TABLE users ;; SELECT count(*), max(email) FROM v
CREATE TEMP VIEW v AS SELECT memo FROM orders ;; SELECT count(*) FROM v JOIN orders USING (memo)
CREATE TEMP VIEW v AS SELECT id, name FROM users ;; CREATE TEMP VIEW w AS SELECT * FROM v ;;
  SELECT name FROM w WHERE id = 3
CREATE TEMP VIEW v AS SELECT id FROM users ;; DROP VIEW IF EXISTS v, nothing ;; CREATE TEMP VIEW v AS SELECT 1 AS x ;;
  TABLE v
CREATE TEMP VIEW v AS SELECT id, at FROM events ;; COMMENT ON VIEW v IS 'x' ;; ALTER VIEW v RENAME TO w ;;
  SELECT id FROM w
CREATE TEMP SEQUENCE s START 5 ;; SELECT nextval('s'), currval('s') ;; ALTER SEQUENCE s RESTART 9 ;; SELECT nextval('s')
CREATE TEMP SEQUENCE IF NOT EXISTS s AS int OWNED BY NONE ;; SELECT last_value FROM s ;; DROP SEQUENCE s
CREATE TEMP TABLE t (id int PRIMARY KEY, up int REFERENCES t (id)) ;; INSERT INTO t VALUES (1, 1) ;; SELECT * FROM t
CREATE TEMP TABLE t (id int UNIQUE) ;; CREATE TEMP TABLE c (t int REFERENCES t (id)) ;; TABLE c
CREATE TEMP TABLE t (id int, k text) PARTITION BY LIST (k) ;; CREATE TEMP TABLE p PARTITION OF t FOR VALUES IN ('a') ;;
  INSERT INTO t VALUES (1, 'a') ;; SELECT * FROM p
CREATE TEMP TABLE t (id int) PARTITION BY RANGE (id) ;;
  CREATE TEMP TABLE p PARTITION OF t FOR VALUES FROM (MINVALUE) TO (9)
CREATE TEMP TABLE t (id int) ;; CREATE TEMP TABLE c (x text) INHERITS (t) ;; INSERT INTO c VALUES (1, 'x') ;; TABLE t
CREATE TEMP TABLE t (id int) ;; ALTER TABLE t SET (fillfactor = 50), ALTER id SET STATISTICS 9, REPLICA IDENTITY FULL
CREATE TEMP TABLE t (id int) ;; ANALYZE t (id) ;; COMMENT ON TABLE t IS 'x' ;; COMMENT ON COLUMN pg_temp.t.id IS NULL
CREATE TEMP TABLE t (id int) ;; CREATE INDEX i ON t (id) ;; DROP INDEX i ;; LOCK TABLE t
LOCK TABLE orders IN SHARE ROW EXCLUSIVE MODE ;; LOCK TABLE users IN ROW EXCLUSIVE MODE NOWAIT
SELECT pg_notify('jobs', 'x')
CREATE TEMP TABLE t (LIKE users INCLUDING DEFAULTS INCLUDING STORAGE) ;;
  INSERT INTO t (id, name) VALUES (1, 'x') RETURNING tenant
PREPARE p AS SELECT id, email FROM users ;; CREATE TEMP TABLE t AS EXECUTE p ;; SELECT * FROM t ;; DEALLOCATE p
INSERT INTO users (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET note = 'x' RETURNING xmax = 0 AS inserted
UPDATE users SET note = 'x' WHERE id = 1 AND xmin IS NOT NULL RETURNING xmin IS NULL
"""


@pytest.mark.parametrize("statements", SHOWN.strip().replace("\n  ", " ").splitlines())
def test_objects_of_the_session_work_and_show_masks(open_session: Open, statements: str) -> None:
    worlds = [played(open_session(world), statements) for world in "AB"]
    assert worlds[0] == worlds[1]
    assert len(worlds[0]) == len(statements.split(" ;; ")), worlds[0]
    assert not any(isinstance(each, str) and each != "done" for each in worlds[0]), worlds[0]
    assert "canary" not in str(worlds[0])


HOSTILE = """
CREATE TEMP VIEW v AS SELECT id, note FROM users ;; SELECT count(*) FROM v WHERE 1 / (id - 105) < 5
CREATE TEMP VIEW v AS SELECT id, note FROM users ;; SELECT count(*) FROM v WHERE note LIKE '(8\\'
CREATE TEMP VIEW v AS SELECT id, note FROM users ;; SELECT count(*) FROM v WHERE 'x' ~ note
CREATE TEMP VIEW v AS SELECT id FROM users ;; SELECT count(*) FROM people p JOIN v ON p.id = 1 / (v.id - 105)
CREATE TEMP VIEW v WITH (security_barrier = false) AS SELECT id FROM users ;;
  SELECT count(*) FROM v WHERE 1 / (id - 105) < 5
CREATE TEMP VIEW v AS SELECT id FROM users ;; CREATE TEMP VIEW w AS SELECT id FROM v ;;
  SELECT 1 FROM w WHERE 1 / (id - 105) < 5
CREATE TEMP VIEW v AS SELECT users FROM users ;; SELECT (users).email FROM v
CREATE TEMP SEQUENCE s ;; SELECT count(*) FROM users WHERE nextval('s') > 0 ;; SELECT last_value FROM s
CREATE TEMP SEQUENCE s ;; UPDATE users SET note = 'x' WHERE nextval('s') > 0 ;; SELECT last_value FROM s
"""


@pytest.mark.parametrize("statements", HOSTILE.strip().replace("\n  ", " ").splitlines())
def test_objects_of_the_session_tell_nothing_of_what_is_hidden(
    open_session: Open, statements: str
) -> None:
    worlds = [played(open_session(world), statements) for world in "AB"]
    assert worlds[0] == worlds[1]
    assert not any(each in ("22012", "22025", "2201B") for each in worlds[0]), worlds[0]
    assert "canary" not in str(worlds[0])


REFUSED = """
CREATE VIEW v AS SELECT id FROM users
CREATE TEMP RECURSIVE VIEW v (n) AS SELECT id FROM users
CREATE TEMP VIEW v AS SELECT id FROM users WITH CHECK OPTION
CREATE TEMP VIEW v AS SELECT set_config('search_path', 'tools', false)
PREPARE p AS SELECT set_config('search_path', 'tools', false)
DECLARE c CURSOR FOR SELECT set_config('search_path', 'tools', false)
CREATE TEMP VIEW v AS SELECT id FROM users ;; EXPLAIN SELECT * FROM v
EXPLAIN ANALYZE SELECT set_config('search_path', 'tools', false)
COPY (SELECT set_config('search_path', 'tools', false)) TO STDOUT
CREATE TEMP VIEW v AS SELECT id FROM users ;; CREATE TEMP VIEW w AS TABLE v ;; EXPLAIN SELECT * FROM w
CREATE TEMP VIEW v AS SELECT id FROM orders ;; DELETE FROM v
CREATE TEMP VIEW v AS SELECT id, memo FROM orders ;; UPDATE v SET memo = 'x'
CREATE TEMP VIEW v AS SELECT id, memo FROM orders ;; INSERT INTO v VALUES (1, 'x')
CREATE TEMP VIEW v AS SELECT id FROM users ;; ALTER VIEW v SET (security_barrier = false)
CREATE TEMP VIEW v AS SELECT id FROM users ;; ALTER TABLE v SET (security_barrier = false)
CREATE TEMP VIEW v AS SELECT id FROM users ;; LOCK TABLE v
CREATE TEMP SEQUENCE s OWNED BY users.id
CREATE TEMP TABLE t (id int REFERENCES users (id))
CREATE TEMP TABLE t () INHERITS (users)
CREATE TEMP TABLE t (LIKE users INCLUDING ALL)
CREATE TEMP TABLE t (LIKE users INCLUDING GENERATED)
CREATE TEMP TABLE t (LIKE users INCLUDING INDEXES)
CREATE TEMP TABLE t PARTITION OF events FOR VALUES FROM (2000) TO (3000)
CREATE TEMP TABLE t (id int) ;; ALTER TABLE t INHERIT users
LOCK TABLE users
LOCK TABLE contacts IN SHARE MODE
ANALYZE users
VACUUM
COMMENT ON TABLE users IS 'x'
COMMENT ON COLUMN users.email IS 'x'
SELECT pg_notify('secrets', 'x')
SELECT pg_notify(name, 'x') FROM users
SELECT id FROM users WHERE pg_notify('jobs', name) IS NULL
UPDATE users SET note = 'x' RETURNING ctid
"""


@pytest.mark.parametrize("statements", REFUSED.strip().splitlines())
def test_what_reaches_beyond_the_session_is_refused(open_session: Open, statements: str) -> None:
    outcome = played(open_session(), statements)[-1]
    assert "permission denied" in outcome or "not supported" in outcome, outcome


@pytest.mark.parametrize(
    ("sql", "action"),
    [
        (
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON orders USING btree (memo, lower(memo))",
            "ddl.create",
        ),
        (
            "ALTER TABLE orders ADD COLUMN added text DEFAULT 'x' NOT NULL, ALTER memo SET NOT NULL",
            "ddl.alter",
        ),
        (
            "ALTER TABLE public.orders ADD CONSTRAINT c CHECK (amount > 0), DROP COLUMN memo",
            "ddl.alter",
        ),
        ("ALTER TABLE orders RENAME COLUMN memo TO note", "ddl.alter"),
        ("DROP TABLE IF EXISTS tree, orders CASCADE", "ddl.drop"),
        ("CREATE SEQUENCE numbers START 5", "ddl.create"),
    ],
)
def test_table_that_nobody_governs_is_changed_with_the_policys_leave(
    open_session: Open, worlds: dict[str, Any], sql: str, action: str
) -> None:
    session = open_session()
    (facts,) = read_facts(sql.encode(), session.context(), simple=True)
    assert facts.actions == (action,)
    assert all(table.written for table in facts.tables)
    owner: Any = psycopg.connect(worlds["A"].owner, autocommit=True)
    with owner as connection, connection.transaction(force_rollback=True):
        connection.execute(session.rewritten(sql).replace("CONCURRENTLY", ""))


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX ON users (name)",
        "CREATE UNIQUE INDEX ON people (email)",
        "CREATE INDEX ON digest (email)",
        "ALTER TABLE users ADD COLUMN counted int DEFAULT nextval('x')",
        "ALTER TABLE users ALTER COLUMN email TYPE text USING lower(email)",
        "ALTER TABLE events_low RENAME TO e",
        "ALTER TABLE orders ADD FOREIGN KEY (memo) REFERENCES users (email)",
        "ALTER TABLE orders REPLICA IDENTITY FULL",
        "ALTER TABLE orders INHERIT people",
        "ALTER TABLE orders DISABLE TRIGGER ALL",
        "ALTER TABLE orders OWNER TO somebody",
        "ALTER TABLE pg_class ADD COLUMN x int",
        "DROP TABLE IF EXISTS users",
        "DROP TABLE orders, users",
        "DROP VIEW IF EXISTS contacts",
        "DROP TABLE contacts",
        "DROP INDEX IF EXISTS users_note",
        "DROP FUNCTION contact",
    ],
)
def test_what_touches_a_governed_table_may_not_be_changed(open_session: Open, sql: str) -> None:
    with pytest.raises(ClientError):
        read_facts(sql.encode(), open_session().context(), simple=True)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE orders RENAME TO o",
        "ALTER TABLE orders RENAME COLUMN memo TO m",
        "ALTER TABLE orders ADD COLUMN x int",
        "DROP TABLE orders",
        "CREATE TABLE IF NOT EXISTS public.gone (id int)",
        "CREATE TABLE gone AS SELECT 1 AS id",
        "CREATE VIEW gone AS SELECT 1 AS id",
        "CREATE OR REPLACE VIEW public.gone AS SELECT 1 AS id",
        "CREATE TABLE x (id int); ALTER TABLE x RENAME TO gone",
        "GRANT INSERT ON orders TO PUBLIC",
    ],
)
def test_table_that_a_row_filter_reads_is_not_exchanged(open_session: Open, sql: str) -> None:
    context = open_session().context()
    parts = (
        "(",
        ("id",),
        " IN (SELECT o.id FROM public.orders o WHERE EXISTS (SELECT FROM gone)))",
    )
    decision = replace(context.decision, row_filters=(RowFilter("public.users", parts, "tenants"),))
    read_facts(sql.encode(), context, simple=True)
    with pytest.raises(ClientError) as caught:
        read_facts(sql.encode(), replace(context, decision=decision), simple=True)
    assert caught.value.report.detail == "A row filter of a policy reads it."
    held = replace(context, decision=decision)
    read_facts(b"CREATE INDEX ON orders (id)", held, simple=True)
    with pytest.raises(ClientError, match="writing to table"):
        read_facts(b"INSERT INTO orders (id) VALUES (1)", held, simple=True)


def test_view_is_judged_by_what_it_reads(open_session: Open) -> None:
    session = open_session()
    session.connection.execute("BEGIN")
    session.connection.execute(
        session.rewritten("CREATE TEMP VIEW v AS SELECT id, email FROM users")
    )
    session.connection.execute(session.rewritten("CREATE TEMP VIEW w AS SELECT id FROM v"))
    (facts,) = read_facts(b"SELECT * FROM w", session.context(), simple=True)
    session.connection.execute("ROLLBACK")
    (use,) = facts.tables
    assert (use.name, use.governed, use.opa()["classes"]) == ("public.users", True, ["pii.email"])
    assert facts.actions == ("select",)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE orders RENAME TO o",
        "ALTER TABLE orders SET SCHEMA tools",
        "ALTER TABLE orders INHERIT tree",
        "ALTER TABLE tree INHERIT orders",
    ],
)
def test_table_is_moved_by_who_may_read_it(open_session: Open, sql: str) -> None:
    (facts,) = read_facts(sql.encode(), open_session().context(), simple=True)
    assert set(facts.actions) == {"ddl.alter", "select"}
    (moved,) = (use for use in facts.tables if use.name.endswith(".orders"))
    assert moved.read
    assert moved.written
