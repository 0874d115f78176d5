"""Hidden values that a statement reaches in a roundabout way: by rules, partitions, parents, views and collations.

Each is shown on plain PostgreSQL, where the answer hangs on the hidden value, and gone through the whole product.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest

from sluice_dev.restricted import Restriction

ROLE = "outsider"
SCHEMA = f"""
CREATE ROLE {ROLE} LOGIN;
CREATE TABLE pay (id int PRIMARY KEY, secret int NOT NULL, used int NOT NULL DEFAULT 0, CHECK (used <= secret));
CREATE VIEW spent AS SELECT id AS k, used AS s FROM pay;
CREATE VIEW spent_again AS SELECT k, s AS t FROM spent WITH CASCADED CHECK OPTION;
CREATE TABLE notes (id int PRIMARY KEY, note int);
CREATE VIEW ruled AS SELECT id, note FROM notes;
CREATE RULE ruled_i AS ON INSERT TO ruled DO INSTEAD SELECT secret FROM pay;
CREATE RULE ruled_u AS ON UPDATE TO ruled DO INSTEAD
  UPDATE notes SET note = 1 WHERE id = NEW.id RETURNING id, (SELECT secret FROM pay);
CREATE RULE ruled_d AS ON DELETE TO ruled DO INSTEAD DELETE FROM notes WHERE note = (SELECT secret FROM pay);
CREATE TABLE parent (id int, bound int);
CREATE TABLE child (secret int, CHECK (bound <= secret)) INHERITS (parent);
CREATE TABLE wide (id int); CREATE TABLE wide_child (secret text) INHERITS (wide);
CREATE TABLE summed (id int, shown int, secret int) PARTITION BY RANGE ((shown + secret));
CREATE TABLE summed_1 PARTITION OF summed FOR VALUES FROM (0) TO (100);
CREATE TABLE paired (id int, shown int, secret int) PARTITION BY RANGE (shown, secret);
CREATE TABLE paired_1 PARTITION OF paired FOR VALUES FROM (0, 0) TO (5, 50);
CREATE TABLE paired_2 PARTITION OF paired FOR VALUES FROM (5, 50) TO (9, 0);
CREATE TABLE team (id int PRIMARY KEY);
CREATE TABLE member (id int PRIMARY KEY, tenant int NOT NULL, team int REFERENCES team ON DELETE CASCADE);
CREATE TABLE fan (id int PRIMARY KEY, member int REFERENCES member);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER noted AFTER DELETE ON member FOR EACH ROW EXECUTE FUNCTION noted();
CREATE COLLATION loose (provider = icu, locale = 'und', deterministic = false);
CREATE TABLE rows (id int PRIMARY KEY, tenant int NOT NULL, word text COLLATE loose, tag text COLLATE "C", label name);
CREATE TABLE guesses (guess int PRIMARY KEY);
CREATE TABLE wage (id int PRIMARY KEY, secret int, shown int);
CREATE VIEW guessed AS SELECT w.id FROM wage w JOIN guesses g ON g.guess = w.secret;
CREATE VIEW guessed_using AS SELECT w.id FROM wage w JOIN (SELECT guess AS secret FROM guesses) g USING (secret);
CREATE VIEW rich AS SELECT id, shown FROM wage WHERE secret > 50;
CREATE VIEW over_rich AS SELECT shown FROM rich;
CREATE VIEW ordered AS SELECT id FROM wage ORDER BY secret;
CREATE VIEW best AS SELECT id FROM wage ORDER BY secret DESC, id LIMIT 1;
CREATE VIEW distincts AS SELECT DISTINCT secret IS NULL AS missing, secret FROM wage;
CREATE VIEW common AS SELECT id FROM wage WHERE EXISTS (SELECT FROM guesses WHERE guess = secret);
CREATE VIEW both_ways AS SELECT secret FROM wage INTERSECT SELECT guess FROM guesses;
CREATE VIEW parts AS SELECT id, generate_series(1, secret / 20) > 0 AS part FROM wage;
CREATE VIEW windowed AS SELECT id, count(*) OVER w AS n FROM wage WINDOW w AS (PARTITION BY secret > 30);
CREATE VIEW by_key AS SELECT id, secret, count(*) AS n FROM wage GROUP BY id, secret HAVING count(*) > 0;
CREATE VIEW shown_only AS SELECT w.id, w.secret, n.note FROM wage w LEFT JOIN notes n USING (id) WHERE w.shown = 1;
INSERT INTO notes VALUES (1, 0), (2, 80);
INSERT INTO rows VALUES (1, 1);
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE};
"""
RESTRICTION = Restriction(
    name="roundabout",
    role=ROLE,
    unreviewed="allow",
    columns=[{"table": "public.*", "column": "secret", "class": "pii"}],
    masks=[{"class": "pii", "mask": "redact"}],
    actions=["select", "insert", "update", "delete", "session", "explain", "copyOut"],
    filters=[
        {"table": "public.rows", "where": "tenant = 1"},
        {"table": "public.member", "where": "tenant = 1"},
    ],
)
HIDDEN = """
INSERT INTO pay VALUES (1, {0}); INSERT INTO child VALUES (1, 0, {0}); INSERT INTO summed VALUES (1, 1, {0});
INSERT INTO paired VALUES (1, 3, {0});
INSERT INTO wide_child SELECT i, repeat('x', {0} * 20) FROM generate_series(1, 20) i;
INSERT INTO team VALUES (1); INSERT INTO member SELECT i, 2, 1 FROM generate_series(1, {0}) i;
INSERT INTO guesses VALUES (20); INSERT INTO wage VALUES (1, {0}, 1), (2, 50, 1);
INSERT INTO rows SELECT 101, 2, 'word', 'word', 'word' WHERE {0} = 80
"""
"""What is hidden: 20 in one world, 80 in the other."""


@pytest.fixture(scope="module")
def dsns() -> Iterator[tuple[str, str]]:
    """DSNs straight to the server, as its administrator, and through Sluice."""
    with RESTRICTION.running(SCHEMA) as (server, sluice):
        yield server.dsn(dbname="roundabout"), sluice.dsn(user=ROLE, password="")


def answered(connection: psycopg.Connection[tuple[object, ...]], sql: str) -> object:
    """Return the rows, or how many were written, or the SQLSTATE."""
    try:
        done = connection.execute(sql.encode())
        return done.fetchall() if done.description else done.statusmessage
    except psycopg.Error as error:
        return error.sqlstate


def worlds(dsns: tuple[str, str], sql: str, *, through: bool) -> list[object]:
    """Ask in both worlds."""
    found: list[object] = []
    for secret in (20, 80):
        with psycopg.connect(dsns[0], autocommit=True) as admin, contextlib.ExitStack() as after:
            admin.execute(HIDDEN.format(secret).encode())
            after.callback(
                admin.execute,
                b"TRUNCATE pay, parent, wide, summed, paired, team, member, fan, guesses, wage CASCADE;"
                b"DELETE FROM rows WHERE tenant = 2; UPDATE notes SET note = 0 WHERE id = 1;"
                b"INSERT INTO notes VALUES (2, 80) ON CONFLICT (id) DO UPDATE SET note = 80",
            )
            if through:
                with psycopg.connect(dsns[1], autocommit=True) as asking:
                    found.append(answered(asking, sql))
            else:
                with psycopg.connect(dsns[0], autocommit=True) as asking:
                    asking.execute(f"SET ROLE {ROLE}".encode())
                    found.append(answered(asking, sql))
    return found


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO ruled VALUES (5, 5)",
        "UPDATE ruled SET note = 3 WHERE id = 1 RETURNING note",
        "DELETE FROM ruled",
        "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) DELETE FROM team",
        "UPDATE spent SET s = 30",
        "UPDATE spent_again SET t = 30",
        "UPDATE parent SET bound = 30",
        "UPDATE summed SET shown = 60",
        "UPDATE summed_1 SET shown = 60",
        "UPDATE paired SET shown = 5 RETURNING tableoid::regclass::text",
        "SELECT ctid::text FROM wide",
        "SELECT id FROM wide WHERE ctid > '(0,10)'",
        "SELECT id FROM wide TABLESAMPLE bernoulli (50) REPEATABLE (1)",
        "UPDATE wide SET id = id RETURNING ctid::text",
        "SELECT id FROM guessed",
        "SELECT id FROM guessed_using",
        "SELECT id FROM rich",
        "SELECT shown FROM over_rich",
        "SELECT id FROM ordered",
        "SELECT id FROM best",
        "SELECT count(*) FROM distincts WHERE secret = 20",
        "SELECT id FROM common",
        "SELECT count(*) FROM both_ways",
        "SELECT id FROM parts",
        "UPDATE rich SET shown = 3 WHERE id = 1",
        "DELETE FROM rich",
    ],
)
def test_hidden_value_in_a_roundabout_way_is_refused(dsns: tuple[str, str], sql: str) -> None:
    plain = worlds(dsns, sql, through=False)
    assert plain[0] != plain[1], plain
    assert worlds(dsns, sql, through=True) == ["42501", "42501"]


def test_window_by_name_carries_what_it_is_made_of(dsns: tuple[str, str]) -> None:
    sql = "SELECT * FROM windowed"
    assert worlds(dsns, sql, through=False) == [[(1, 1), (2, 1)], [(1, 2), (2, 2)]]
    assert worlds(dsns, sql, through=True) == [[(1, 0), (2, 0)]] * 2


@pytest.mark.parametrize(
    ("condition", "state"),
    [
        ("starts_with(word, 'x')", "0A000"),
        ("label < word", "42P22"),
        ("tag::text < word", "42P22"),
        ("tag < label", None),
        ("strpos(tag, 'x') > 0", None),
    ],
)
def test_condition_over_odd_collations_meets_no_hidden_row(
    dsns: tuple[str, str], condition: str, state: str | None
) -> None:
    sql = f"SELECT id FROM (SELECT * FROM rows s WHERE tenant = 1) r WHERE {condition}"
    plain = worlds(dsns, sql, through=False)
    assert plain == [[], [] if state is None else state]
    sql = f"SELECT id FROM rows WHERE id > 100 AND {condition}"
    assert worlds(dsns, sql, through=True) == [[], []]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE spent SET k = 1",
        "UPDATE parent SET id = 2",
        "UPDATE summed SET id = 2",
        "SELECT id FROM wide WHERE id = 3",
        "SELECT note FROM ruled WHERE id = 2",
        "SELECT id, n FROM by_key ORDER BY id",
        "SELECT id, note FROM shown_only ORDER BY id",
        "SELECT ctid::text FROM notes WHERE id = 77",
    ],
)
def test_what_tells_nothing_still_works(dsns: tuple[str, str], sql: str) -> None:
    assert worlds(dsns, sql, through=True) == worlds(dsns, sql, through=False)
