"""Properties over random policy sets, on a real OPA, with a second opinion written in Python."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

COLUMNS = [
    {"table": "public.users", "column": "email", "class": "pii.email"},
    {"table": "public.users", "column": "ssn", "class": "pii.ssn"},
    {"table": "public.cards", "column": "pan", "class": "pci"},
    {"table": "public.orders", "column": "*", "class": "public"},
]
CLASSES = ["pii.email", "pii.ssn", "pci"]
NAMES = ["*", "pii", "pii.email", "pii.ssn", "pci", "unreviewed"]
TABLES = ["public.users", "public.cards", "audit.log"]
PATTERNS = ["*.*", "public.*", "public.users", "*.log", "audit.l*"]
ACTIONS = ["select", "insert", "update", "ddl.drop", "explain", "call", "session"]
RULE_ACTIONS = ["select", "insert", "update", "ddl.*", "ddl.drop", "explain", "call", "session"]
MASKS: list[dict[str, Any]] = [  # The published order, the strictest first.
    {"kind": "null"},
    {"kind": "redact"},
    {"kind": "hash"},
    {"kind": "bucket", "size": 10},
    {"kind": "year"},
    {"kind": "last", "count": 2},
    {"kind": "first", "count": 4},
    {"kind": "email"},
    {"kind": "expression", "rank": "expression", "parts": ["(", {"column": "value"}, ")"]},
    {"kind": "none"},
]
OFFICE = {
    "text": "08:00-18:00",
    "time_zone": "Europe/Berlin",
    "windows": [{"days": [1, 2, 3, 4, 5, 6, 7], "from": 480, "to": 1080}],
}
NOON_NS = 1795431600000000000  # 2026-11-23 12:00 in Berlin.
NIGHT_NS = NOON_NS + 11 * 3600 * 10**9
LEVELS = ["open", "guarded", "restricted"]


def some_of(values: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


SUBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "workload": st.fixed_dictionaries({}, optional={"namespaces": some_of(["a", "b"])}),
        "actor": st.fixed_dictionaries({}, optional={"kinds": some_of(["human", "agent"])}),
        "role": st.fixed_dictionaries({"names": some_of(["app", "admin"])}),
    },
)
LIMITS = st.fixed_dictionaries(
    {},
    optional={"rows_per_statement": st.integers(0, 9), "statement_seconds": st.integers(1, 9)},
)


def rules(effects: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"effect": st.sampled_from(effects)},
        optional={
            "actions": some_of(RULE_ACTIONS),
            "tables": some_of(PATTERNS),
            "classes": some_of(NAMES),
            "limits": LIMITS,
            "when": st.just(OFFICE),
        },
    )


def policies(
    effects: list[str], modes: list[str], oracles: list[str]
) -> st.SearchStrategy[dict[str, Any]]:
    required = {
        "mode": st.sampled_from(modes),
        "rules": st.lists(rules(effects), max_size=3),
        "masks": st.lists(
            st.fixed_dictionaries(
                {"class": st.sampled_from(NAMES), "mask": st.sampled_from(MASKS)}
            ),
            max_size=3,
        ),
        "row_filters": st.lists(
            st.fixed_dictionaries(
                {"table": st.sampled_from(PATTERNS), "parts": st.sampled_from([["(a)"], ["(b)"]])}
            ),
            max_size=1,
        ),
        "guardrails": st.fixed_dictionaries(
            {},
            optional={
                "drop": st.just("deny"),
                "unfiltered_writes": st.just("deny"),
                "bulk_export": st.fixed_dictionaries({"rows": st.integers(0, 9)}),
            },
        ),
        "write_oracles": st.fixed_dictionaries(
            {}, optional={"keys": st.sampled_from(oracles), "row_values": st.sampled_from(oracles)}
        ),
    }
    subjects = st.lists(SUBJECTS, min_size=1, max_size=2)
    return st.fixed_dictionaries(required, optional={"subjects": subjects})


ANY_POLICY = policies(
    ["allow", "allow", "deny"],
    ["enforce", "enforce", "enforce", "warn", "audit"],
    ["accept", "deny"],
)
RESTRICTION = policies(["deny"], ["enforce"], ["accept", "deny"])

TABLE_USES = st.fixed_dictionaries(
    {
        "name": st.sampled_from(TABLES),
        "access": st.sampled_from(["read", "write", "readwrite"]),
        "columns": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.just("c"),
                    "class": st.sampled_from([None, "unreviewed", *CLASSES]),
                    "access": st.sampled_from(["read", "write"]),
                }
            ),
            max_size=3,
        ),
    }
)
STATEMENTS = st.fixed_dictionaries(
    {
        "kind": st.just("x"),
        "actions": some_of(ACTIONS),
        "tables": st.lists(TABLE_USES, max_size=2),
        "functions": st.just([]),
        "unfiltered_write": st.booleans(),
        "limit": st.none(),
        "write_oracles": st.lists(st.sampled_from(["keys", "rowValues"]), max_size=1),
    }
)
ACTORS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {
            "name": st.just("ann"),
            "kind": st.sampled_from(["human", "agent"]),
            "groups": st.just([]),
            "assurance": st.sampled_from(["verified", "verified", "asserted"]),
        }
    ),
)
WORKLOAD = {"service_account": "s", "pod": None, "labels": {}, "assurance": "verified"}
QUESTIONS = st.fixed_dictionaries(
    {
        "contract": st.just(1),
        "identity": st.fixed_dictionaries(
            {
                "workload": st.sampled_from(["a", "b"]).map(lambda n: {**WORKLOAD, "namespace": n}),
                "actor": ACTORS,
            }
        ),
        "clock": st.fixed_dictionaries(
            {"now_ns": st.sampled_from([NOON_NS, NIGHT_NS]), "trusted": st.booleans()}
        ),
        "session": st.just({"database": "o/db", "role": "app", "search_path": ["public"]}),
        "statement": STATEMENTS,
    }
)
DATABASES = st.fixed_dictionaries(
    {
        "state": st.just("active"),
        "enforcement": st.sampled_from(["enforce", "enforce", "enforce", "observe"]),
        "allowed": st.sampled_from([True, True, True, False]),
        "columns": st.just(COLUMNS),
        "unreviewed": st.sampled_from(["mask", "allow"]),
        "trusted": st.just({"functions": [], "channels": []}),
    }
)
POLICY_SETS = st.lists(ANY_POLICY, max_size=4)

# Many small questions go to OPA at once; more would only repeat the shapes.
PROPERTY = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def documents(database: Any, policy_set: list[Any]) -> dict[str, Any]:
    named: list[dict[str, Any]] = []
    for number, policy in enumerate(policy_set):
        numbered = [{"name": f"r{i}", **rule} for i, rule in enumerate(policy["rules"])]
        named.append({**policy, "name": f"o/p{number}", "databases": ["o/db"], "rules": numbered})
    return {"contract": 1, "profile": "p", "databases": {"o/db": database}, "policies": named}


def completed(question: Any) -> Any:
    """The question with the classes that its columns read."""
    full = copy.deepcopy(question)
    for table in full["statement"]["tables"]:
        read = {c["class"] for c in table["columns"] if c["access"] == "read" and c["class"]}
        table["classes"] = sorted(read)
    return full


QUESTION_LISTS = st.lists(QUESTIONS.map(completed), min_size=4, max_size=4)


def shuffled(value: Any, source: random.Random) -> Any:
    """Every list whose order must not matter, in another order."""
    if isinstance(value, dict):
        kept = ("parts",)
        return {k: v if k in kept else shuffled(v, source) for k, v in value.items()}
    if isinstance(value, list):
        items = [shuffled(item, source) for item in value]
        source.shuffle(items)
        return items
    return value


@PROPERTY
@given(DATABASES, POLICY_SETS, QUESTION_LISTS, st.integers(0, 2**16))
def test_order_changes_nothing(
    library: Any, database: Any, policy_set: list[Any], questions: list[Any], seed: int
) -> None:
    data = documents(database, policy_set)
    other = {**data, "policies": shuffled(data["policies"], random.Random(seed))}
    answers = library.decide([(d, q) for d in (data, other) for q in questions])
    assert answers[: len(questions)] == answers[len(questions) :]


def at_most(new: Any, old: Any) -> bool:
    return old is None or (new is not None and new <= old)


@PROPERTY
@given(DATABASES, POLICY_SETS, QUESTION_LISTS, RESTRICTION)
def test_adding_a_restriction_never_widens(
    library: Any, database: Any, policy_set: list[Any], questions: list[Any], added: Any
) -> None:
    data = documents(database, policy_set)
    more = documents(database, [*policy_set, added])
    answers = library.decide([(d, q) for d in (data, more) for q in questions])
    for old, new in zip(answers, answers[len(questions) :], strict=False):
        assert new["statement"]["allow"] <= old["statement"]["allow"]
        assert new["session"]["allow"] <= old["session"]["allow"]
        if new["session"]["allow"]:
            assert_no_wider(old["session"], new["session"])
        if new["statement"]["allow"]:
            for name, limit in old["statement"]["limits"].items():
                assert at_most(new["statement"]["limits"][name], limit)


def assert_no_wider(old: Any, new: Any) -> None:
    assert LEVELS.index(new["level"]) >= LEVELS.index(old["level"])
    for class_, mask in old["masks"].items():
        assert MASKS.index(new["masks"][class_]) <= MASKS.index(mask)
    assert all(entry in new["row_filters"] for entry in old["row_filters"])
    for name, limit in old["limits"].items():
        assert at_most(new["limits"][name], limit)
    for name, verdict in old["write_oracles"].items():
        assert new["write_oracles"][name] in {verdict, "deny"}


def validators(schemas: dict[str, Any]) -> dict[str, Draft202012Validator]:
    # References are by the schema's own address, and between neighbours.
    resources = [(s["$id"], Resource.from_contents(s)) for s in schemas.values()]
    registry: Any = Registry().with_resources(resources)
    return {n: Draft202012Validator(s, registry=registry) for n, s in schemas.items()}


@PROPERTY
@given(DATABASES, POLICY_SETS, QUESTION_LISTS)
def test_documents_are_those_of_the_contract(
    library: Any,
    schemas: dict[str, Any],
    database: Any,
    policy_set: list[Any],
    questions: list[Any],
) -> None:
    by_name = validators(schemas)
    data = documents(database, policy_set)
    by_name["data.schema.json"].validate({"sluice_data": data})
    answers = library.decide([(data, question) for question in questions])
    for question, answer in zip(questions, answers, strict=True):
        by_name["statement_input.schema.json"].validate(question)
        by_name["session_output.schema.json"].validate(answer["session"])
        by_name["statement_output.schema.json"].validate(answer["statement"])


def test_refusals_are_those_of_the_contract(library: Any, schemas: dict[str, Any]) -> None:
    by_name = validators(schemas)
    data = {**documents({"state": "denied"}, []), "databases": {"o/db": {"state": "denied"}}}
    by_name["data.schema.json"].validate({"sluice_data": data})
    for question in ({}, {"contract": 1, "session": {"database": "o/db"}}, {"contract": 2}):
        (answer,) = library.decide([(data, question)])
        by_name["session_output.schema.json"].validate(answer["session"])
        by_name["statement_output.schema.json"].validate(answer["statement"])
        assert not answer["session"]["allow"]
        assert not answer["statement"]["allow"]


@settings(parent=PROPERTY, max_examples=150)
@given(DATABASES, POLICY_SETS, QUESTION_LISTS)
def test_decisions_agree_with_a_second_opinion(
    library: Any, second_opinion: Any, database: Any, policy_set: list[Any], questions: list[Any]
) -> None:
    data = documents(database, policy_set)
    answers = library.decide([(data, question) for question in questions])
    for question, answer in zip(questions, answers, strict=True):
        opinion = second_opinion(data, question, masks=MASKS, noon_ns=NOON_NS)
        observed = database["enforcement"] == "observe"
        context = json.dumps([data, question, answer["statement"]], indent=1)
        assert answer["statement"]["allow"] == (observed or opinion.allowed()), context
        if answer["session"]["allow"]:
            for class_ in [*CLASSES, "unreviewed"]:
                assert answer["session"]["masks"][class_] == opinion.mask(class_), class_
            expected = {field: opinion.oracle(field) for field in ("keys", "row_values")}
            assert answer["session"]["write_oracles"] == expected
