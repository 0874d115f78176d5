# ruff: noqa: E501 - statements are easier to read in one line.
"""What applications ask of the ledger: the statements of the bench ``sql``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Why = Literal["", "masked predicate", "row filter"]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; ``$1`` and so on make it a prepared one."""

    name: str
    text: str
    values: tuple[str, ...] = ()
    why: Why = ""
    """What may make it slower than the original; empty: nothing may."""
    writes: bool = False
    """It runs in a transaction that is rolled back."""
    advice: str = ""


_INDEX = "an index on the mask's expression, as the server's owner: it serves the masked search as the raw one was"
_READS = (
    ("key look-up", "SELECT id, name, email FROM users WHERE id = 424242"),
    ("key look-up, all columns", "SELECT * FROM users WHERE id = 424242"),
    ("ten keys", "SELECT id, name FROM users WHERE id IN (5, 50, 500, 5000, 50000, 500000, 7, 77, 777, 7777)"),
    ("range of 1,000 keys", "SELECT id, name, score FROM users WHERE id BETWEEN 500000 AND 500999"),
    ("1,000 masked values", "SELECT id, email FROM users WHERE id BETWEEN 500000 AND 500999"),
    ("100,000 masked values", "SELECT count(email), max(length(phone)) FROM users WHERE id <= 100000"),
    ("newest 50", "SELECT id, name, created_at FROM users ORDER BY created_at DESC, id DESC LIMIT 50"),
    ("best 20, with masks", "SELECT id, email, phone, score FROM users ORDER BY score DESC, id LIMIT 20"),
    (
        "keyset pagination",
        (
            "SELECT id, name, created_at FROM users WHERE (created_at, id) > ('2021-03-01 00:00:00+00', 304000) "
            "ORDER BY created_at, id LIMIT 50"
        ),
    ),
    ("offset pagination", "SELECT id, name FROM users ORDER BY id LIMIT 50 OFFSET 5000"),
    ("LIKE prefix", "SELECT id, name, email FROM users WHERE name LIKE 'name4242%'"),
    ("search without an index", "SELECT id, name FROM users WHERE note = 'note 7' AND region = 'eu'"),
    ("search by expression", "SELECT count(*) FROM users WHERE lower(note) = 'note 7'"),
    ("index-only scan", "SELECT score, id FROM users WHERE score = 500"),
    ("join by key", "SELECT u.id, u.email, o.id, o.amount FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 18"),
    (
        "join of 10,000 keys",
        ("SELECT u.region, count(*), sum(o.amount) FROM users u JOIN orders o ON o.user_id = u.id "
        "WHERE u.id BETWEEN 1000 AND 10999 GROUP BY u.region ORDER BY 1"),
    ),
    (
        "join of everything",
        "SELECT u.region, sum(o.amount) FROM orders o JOIN users u ON u.id = o.user_id GROUP BY u.region ORDER BY 1",
    ),
    ("left join that is not needed", "SELECT o.id, o.amount FROM orders o LEFT JOIN users u ON u.id = o.user_id WHERE o.id < 2000"),
    (
        "EXISTS",
        ("SELECT u.id, u.name FROM users u WHERE u.id BETWEEN 1 AND 5000 AND EXISTS "
        "(SELECT 1 FROM orders o WHERE o.user_id = u.id AND o.state = 'paid')"),
    ),
    ("IN (SELECT)", "SELECT id, name FROM users WHERE id IN (SELECT user_id FROM orders WHERE id BETWEEN 100 AND 600)"),
    ("count of everything", "SELECT count(*) FROM users"),
    ("count of a range", "SELECT count(*) FROM users WHERE score BETWEEN 100 AND 149"),
    ("GROUP BY", "SELECT region, count(*), avg(score) FROM users GROUP BY region ORDER BY region"),
    ("DISTINCT", "SELECT DISTINCT state FROM orders ORDER BY state"),
    (
        "window function",
        "SELECT id, amount, rank() OVER (PARTITION BY state ORDER BY amount DESC) FROM orders WHERE id <= 10000 ORDER BY id LIMIT 100",
    ),
    ("WITH", ("WITH paid AS (SELECT user_id, sum(amount) s FROM orders WHERE id < 20000 GROUP BY 1) "
     "SELECT u.id, u.email, p.s FROM paid p JOIN users u ON u.id = p.user_id ORDER BY p.s DESC, u.id LIMIT 10")),
    ("LATERAL", ("SELECT u.id, o.id FROM users u, LATERAL (SELECT id FROM orders o WHERE o.user_id = u.id ORDER BY id LIMIT 1) o "
     "WHERE u.id BETWEEN 1 AND 1000")),
    ("UNION ALL", "SELECT id, name FROM users WHERE id = 7 UNION ALL SELECT id, state FROM orders WHERE id = 7"),
    ("one partition", "SELECT id, user_id, kind, ip FROM events WHERE at = '2025-06-15' ORDER BY id LIMIT 100"),
    ("a quarter of the partitions", "SELECT kind, count(*) FROM events WHERE at >= '2025-04-01' AND at < '2025-07-01' GROUP BY 1 ORDER BY 1"),
    ("view by key", "SELECT id, name, email FROM best_users WHERE id = 424249"),
    (
        "job queue",
        "SELECT id, run_at FROM jobs WHERE state = 'wait' ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED",
    ),
)  # fmt: skip
_WRITES = (
    ("UPDATE by key", "UPDATE users SET score = score + 1 WHERE id = 424242"),
    ("UPDATE of a masked column", "UPDATE users SET phone = '+49 30 1234567' WHERE id = 424242"),
    ("INSERT", "INSERT INTO orders VALUES (900001, 5, 'open', 10.5, '5 Invented Street', '2026-01-01 00:00:00+00')"),
    (
        "upsert",
        ("INSERT INTO jobs (id, state, run_at, secret) VALUES (4242, 'wait', '2026-01-01 00:00:00+00', 'x') "
        "ON CONFLICT (id) DO UPDATE SET run_at = excluded.run_at"),
    ),
    ("DELETE by key", "DELETE FROM orders WHERE id = 4242"),
)  # fmt: skip
STATEMENTS = (
    *(Statement(name, text) for name, text in _READS),
    Statement(
        "key look-up, prepared", "SELECT id, name, email FROM users WHERE id = $1", ("424242",)
    ),
    Statement(
        "range and LIMIT, prepared",
        "SELECT id, name FROM users WHERE created_at >= $1 ORDER BY created_at, id LIMIT 20",
        ("2021-03-01 00:00:00+00",),
    ),
    Statement(
        "join, prepared",
        "SELECT u.email, o.amount FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = $1",
        ("18",),
    ),
    *(Statement(name, text, writes=True) for name, text in _WRITES),
    Statement(
        "key look-up under a row filter",
        "SELECT id, title FROM documents WHERE id = 4242",
        why="row filter",
    ),
    Statement(
        "count under a row filter",
        "SELECT count(*) FROM documents",
        why="row filter",
        advice="an index that begins with the filter's columns, where it leaves few rows",
    ),
    Statement(
        "search under a row filter",
        "SELECT count(*) FROM documents WHERE lower(title) LIKE 'title 42%'",
        why="row filter",
    ),
    Statement(
        "INSERT under a row filter",
        "INSERT INTO documents VALUES (900001, 1, 'title', 'body')",
        why="row filter",
        writes=True,
    ),
    Statement(
        "search of a masked column",
        "SELECT id, name FROM users WHERE phone = '+49 30 104242' LIMIT 10",
        why="masked predicate",
        advice=_INDEX,
    ),
    Statement(
        "unique key that is masked",
        "SELECT id, name FROM users WHERE email = 'user424242@example.com'",
        why="masked predicate",
        advice=_INDEX,
    ),
    Statement(
        "LIKE prefix of a masked column",
        "SELECT id, name FROM users WHERE email LIKE 'user42424%'",
        why="masked predicate",
        advice="another column to search by: the mask keeps no prefix",
    ),
    Statement(
        "first 20 by a masked column",
        "SELECT id, email FROM users ORDER BY email, id LIMIT 20",
        why="masked predicate",
        advice=_INDEX,
    ),
)
