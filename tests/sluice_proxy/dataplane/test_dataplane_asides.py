"""What a trigger could say beside the answers: each way is shown on plain PostgreSQL first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from sluice_proxy._native import Scrub, SessionState
from sluice_proxy.scrubbing import KEEP_PRIMARY

HIDDEN = "canary_7f3a"


@pytest.fixture
def cleaned(start_stack) -> Callable:
    """A stack whose messages are cleaned."""
    return start_stack(brain={"level": 2, "scrub": Scrub(enabled=True, keep_primary=KEEP_PRIMARY)})


@pytest.fixture
def trigger(cleaned) -> Iterator[Callable[[str], None]]:
    """A function that makes an INSERT into `notes` run a body of PL/pgSQL."""
    with psycopg.connect(cleaned.server.admin_dsn, autocommit=True) as admin:
        admin.execute("CREATE TABLE notes (content text)")

        def put(body: str) -> None:
            admin.execute(
                "CREATE OR REPLACE FUNCTION leaky() RETURNS trigger LANGUAGE plpgsql AS "
                f"$f$ BEGIN {body}; RETURN new; END $f$"
            )
            admin.execute(
                "CREATE OR REPLACE TRIGGER leaky BEFORE INSERT ON notes FOR EACH ROW "
                "EXECUTE FUNCTION leaky()"
            )

        yield put
        admin.execute("DROP TABLE notes; DROP FUNCTION IF EXISTS leaky")


def heard(connection: psycopg.Connection, text: str = "INSERT INTO notes VALUES ('x')") -> str:
    """Everything that a client learns from a statement."""
    said: list[object] = []
    connection.add_notice_handler(lambda diag: said.append(diag.message_primary))
    try:
        connection.execute(text)
    except psycopg.Error as error:
        diag = error.diag
        said += [error, diag.context, diag.internal_query, diag.message_hint, diag.column_name]
    said += [
        connection.info.parameter_status(name)
        for name in ("application_name", "TimeZone", "search_path")
    ]
    said += list(connection.notifies(timeout=0.1))
    return " ".join(map(str, said)).lower()


@pytest.mark.parametrize(
    "body",
    [
        f"EXECUTE format('SELECT %I FROM notes', '{HIDDEN}')",
        f"EXECUTE format('SELECT 1 FROM %I', '{HIDDEN}')",
        f"EXECUTE format('SELECT %I()', '{HIDDEN}')",
        f"EXECUTE '{HIDDEN}'",
        f"EXECUTE format('SET ROLE %I', '{HIDDEN}')",
        f"PERFORM set_config('{HIDDEN}.', 'x', false)",
        f"RAISE WARNING USING message = '{HIDDEN}'",
        f"PERFORM set_config('application_name', '{HIDDEN}', false)",
        f"PERFORM set_config('TimeZone', '<{HIDDEN[:6]}>+5', false)",
        f"LISTEN {HIDDEN}; PERFORM pg_notify('{HIDDEN}', 'x')",
    ],
)
def test_trigger_tells_the_client_nothing(cleaned, trigger, body):
    trigger(body)
    with psycopg.connect(cleaned.server.admin_dsn, autocommit=True) as direct:
        assert HIDDEN[:6] in heard(direct), "no hazard"
    original = cleaned.brain.state
    cleaned.brain.state = lambda request: with_channels(original, request)
    with cleaned.connect() as connection:
        assert HIDDEN[:6] not in heard(connection)


def with_channels(state, request):
    made = state(request)
    return SessionState(
        context=made.context,
        level=2,
        revision="r1",
        sequence=1,
        scrub=Scrub(enabled=True, keep_primary=KEEP_PRIMARY),
        channels=frozenset({"trusted"}),
    )


def test_client_hears_of_settings_that_it_sets(cleaned):
    with cleaned.connect() as connection:
        connection.execute("SET application_name = 'my tool'")
        assert connection.info.parameter_status("application_name") == "my tool"
        connection.execute("SET TIME ZONE 'europe/berlin'")
        assert connection.info.parameter_status("TimeZone") == "Europe/Berlin"
        connection.execute("BEGIN")
        connection.execute("SET LOCAL application_name = 'another'")
        connection.execute("ROLLBACK")
        assert connection.info.parameter_status("application_name") == "my tool"
        connection.execute("SET DateStyle = 'SQL, DMY'")
        assert connection.info.parameter_status("DateStyle") == "SQL, DMY"
        connection.execute("RESET application_name")
        assert connection.info.parameter_status("application_name") == ""


def test_value_of_a_trigger_stays_unsaid_beside_a_setting_of_the_client(cleaned, trigger):
    trigger(f"PERFORM set_config('application_name', '{HIDDEN}', false)")
    with cleaned.connect() as connection:
        text = "SET application_name = 'mine'; INSERT INTO notes VALUES ('x')"
        assert HIDDEN not in heard(connection, text)


def test_trusted_channel_is_heard(cleaned):
    original = cleaned.brain.state
    cleaned.brain.state = lambda request: with_channels(original, request)
    with cleaned.connect() as connection:
        connection.execute("LISTEN trusted")
        connection.execute("NOTIFY trusted, 'x'")
        assert [one.payload for one in connection.notifies(timeout=0.2)] == ["x"]


def test_errors_of_the_statement_itself_keep_their_text(cleaned):
    with cleaned.connect() as connection:
        with pytest.raises(psycopg.errors.UndefinedColumn, match='column "nothing" does not exist'):
            connection.execute("SELECT nothing")
        with pytest.raises(psycopg.errors.SyntaxError, match="syntax error"):
            connection.execute("SELEC 1")


def test_fixed_texts_pass_from_inside_a_function(cleaned, trigger):
    trigger("PERFORM 1 / (length(new.content) - 1)")
    with cleaned.connect() as connection:
        assert "division by zero" in heard(connection)
