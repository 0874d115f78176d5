"""Statements of the corpora with something changed: a name, a literal, an operator, a piece of another statement."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from pglast import parser

from sluice_dev.worlds import words
from sluice_dev.worlds.expressions import Scope
from sluice_dev.worlds.schema import quoted
from sluice_dev.worlds.statement import Statement, simple
from sluice_dev.worlds.statements import Statements
from sluice_dev.worlds.wire import Step, extended

_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | [A-Za-z_][A-Za-z_0-9]* | \d+(?:\.\d+)? | [<>=!~@#&|]+ | \s+ | .""",
    re.DOTALL | re.VERBOSE,
)
_OPERATORS = ("=", "<>", "<", ">", "<=", ">=", "||", "~", "->>", "@>")
STEERS = re.compile(
    r"""\b(begin|commit|rollback|start|abort|end|listen|unlisten|notify|vacuum|discard|prepare\s+transaction
    |checkpoint|pg_sleep\w*|set\s+session|reset)\b|\d{5}|@@""",
    re.IGNORECASE | re.VERBOSE,
)
"""Statements that cannot be rolled back with others, or that take long."""


class Mutations:
    """An endless source over both corpora."""

    def __init__(self, corpus: Path, grammar: Statements, seed: int) -> None:
        """Read the corpora's statements; those that steer transactions are left out: each is rolled back."""
        self.grammar, self.rng = grammar, random.Random(seed + 1)  # noqa: S311 - repeatable, not secret.
        self.texts: list[tuple[str, ...]] = []
        self.origins: list[str] = []
        for name, origin in (("cases_sql.jsonl", "attacks"), ("benign.jsonl", "benign")):
            for line in (corpus / name).read_text().splitlines():
                texts = tuple(json.loads(line).get("sql", ())) if line.strip() else ()
                if texts and not any(STEERS.search(one) for one in texts):
                    self.texts.append(texts)
                    self.origins.append(origin)
        self.names = sorted(
            {quoted(column.name) for one in grammar.schema.relations for column in one.columns}
            | {quoted(one.name) for one in grammar.schema.relations}
        )

    def draw(self) -> Statement:
        """Return the next statement."""
        rng = self.rng
        drawn = rng.randrange(len(self.texts))
        texts, origin = self.texts[drawn], self.origins[drawn]
        turn = rng.randrange(len(texts))
        changed = [
            self.mutated(one) if n == turn or rng.random() < 0.2 else one
            for n, one in enumerate(texts)
        ]
        if len(changed) == 1 and (rng.random() < 0.3 or _parameters(changed[0])):
            sql = changed[0]
            given = [rng.choice([b"1", b"alice", b"101"])] * _parameters(sql)
            step = Step(extended(sql, given, result_format=rng.choice([0, 1])))
            return Statement((sql,), (step,), origin=origin)
        return simple(*changed, copy_in=(b"1\tx\n",), origin=origin)

    def mutated(self, sql: str) -> str:
        """Return the text with up to three changes that PostgreSQL parses, and now and then one that it does not."""
        for _ in range(8):
            made = self._once(sql)
            if _parses(made) or self.rng.random() < 0.02:
                return made
        return sql

    def _once(self, sql: str) -> str:
        rng = self.rng
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            tokens = _TOKEN.findall(sql)
            spots = [n for n, token in enumerate(tokens) if not token.isspace()]
            if not spots:
                break
            at = rng.choice(spots)
            tokens[at] = self._changed(tokens, at)
            sql = "".join(tokens)
        if rng.random() < 0.15 and re.match(r"\s*(select|table|values|with)\b", sql, re.IGNORECASE):
            sql = self._wrapped(sql.rstrip().rstrip(";"))
        return sql

    def _changed(self, tokens: list[str], at: int) -> str:
        rng, token = self.rng, tokens[at]
        express = self.grammar.express
        if token[0] in "<>=!~@#&|":
            return rng.choice(_OPERATORS)
        if token[0] == "'":
            return rng.choice(
                words.LITERALS["text"] + words.LITERALS["pattern"] + ("'x''y'", "'2024-03-02'")
            )
        if token[0].isdigit():
            return rng.choice(
                [
                    "0",
                    "1",
                    "2",
                    "101",
                    "4173.28",
                    "-1",
                    "NULL",
                    "(SELECT count(*) FROM users)",
                    "length(email)",
                ]
            )
        if token[0].isalpha() or token[0] in '_"':
            draw = rng.random()
            if draw < 0.5:
                return rng.choice(self.names)
            if draw < 0.7:
                return express.expression(express.kind(), Scope(), 1)
            if draw < 0.85:
                return f"({token})::text" if draw < 0.8 else f"lower({token})"
            return rng.choice(_TOKEN.findall(rng.choice(rng.choice(self.texts))))
        return rng.choice([token, "", f"{token} ", "/* x */" + token, "-- y\n" + token])

    def _wrapped(self, sql: str) -> str:
        return self.rng.choice(
            [
                f"SELECT * FROM ({sql}) q",
                f"SELECT count(*) FROM ({sql}) q",
                f"SELECT q::text FROM ({sql}) q",
                f"SELECT EXISTS ({sql})",
                f"WITH q AS ({sql}) SELECT q FROM q",
                f"SELECT to_jsonb(q) FROM ({sql}) q",
                f"CREATE TEMP TABLE d2 AS {sql}",
                f"({sql}) UNION ALL ({sql})",
                f"EXPLAIN {sql}",
                f"SELECT q::text FROM ({sql}) q WHERE q::text ~ '('",
                f"COPY ({sql}) TO STDOUT",
                f"DECLARE k CURSOR FOR {sql}",
            ]
        )


def _parses(sql: str) -> bool:
    try:
        parser.parse_sql(sql)
    except (parser.ParseError, ValueError):
        return False
    return True


def _parameters(sql: str) -> int:
    return max((int(number) for number in re.findall(r"\$(\d{1,2})\b", sql)), default=0)
