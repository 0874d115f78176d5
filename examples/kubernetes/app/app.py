"""A support desk: every two seconds it looks at customers, orders and cards of the shop, and prints what it got.

It knows nothing of Sluice: a DSN from its environment, psycopg, and statements as they come.
"""

import os
import signal
import sys
import time
from datetime import UTC, datetime

import psycopg

STATEMENTS = (
    ("customers", "SELECT id, name, email, ssn FROM users WHERE id <= 3 ORDER BY id"),
    ("orders", "SELECT region, count(*) FROM orders GROUP BY region ORDER BY region"),
    ("cards", "SELECT pan FROM cards WHERE id <= 2 ORDER BY id"),
)


def look(connection: psycopg.Connection) -> None:
    """Run the statements once and print their rows, or the error."""
    for name, statement in STATEMENTS:
        try:
            rows = connection.execute(statement).fetchall()
        except psycopg.errors.InsufficientPrivilege as error:
            say(name, f"ERROR {error.sqlstate}: {error.diag.message_primary}")
        else:
            say(name, " | ".join(" ".join(str(cell) for cell in row) for row in rows))


def say(name: str, text: str) -> None:
    """Print one line with the time."""
    print(f"{datetime.now(UTC):%H:%M:%S} {name:<9} {text}", flush=True)


def main() -> None:
    """Look until told to stop; connect anew when the connection is lost."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    interval_s = float(os.environ.get("INTERVAL_SECONDS", "2"))
    rounds = int(os.environ.get("ROUNDS", "0"))  # 0: without end. A Job looks a few times.
    done = 0
    while True:
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
                while True:
                    look(connection)
                    done += 1
                    if done == rounds:
                        return
                    time.sleep(interval_s)
        except psycopg.OperationalError as error:
            say("error", " ".join(str(error).split()))
            time.sleep(1)


if __name__ == "__main__":
    main()
