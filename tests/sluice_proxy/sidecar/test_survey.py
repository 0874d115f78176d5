"""What a sidecar reports of catalogs and of OPA: with real policy, OPA, PostgreSQL and bundle service."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from sluice_policy import Profile, SigningKey, bundle, compile_profile
from sluice_policy.resources import Resource, parse_resource

SCHEMA = """\
CREATE TABLE users (id int PRIMARY KEY, email text NOT NULL, born date, note text);
CREATE TABLE events (at timestamptz, what text) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events DEFAULT;
CREATE VIEW adults AS SELECT id, email FROM users;
CREATE TABLE orders (id int, total int);
"""
CLASSIFICATION = {
    "database": {"hosts": ["shop-pg.support.svc"], "name": "shop"},
    "columns": [
        {"table": "public.users", "column": "email", "class": "pii.email"},
        {"table": "public.users", "column": "born", "class": "pii.birth"},
        {"table": "public.orders", "column": "*", "class": "public"},
    ],
}
POLICY = {
    "rules": [{"name": "read", "effect": "allow", "actions": ["select"], "classes": ["pii"]}],
    "masks": [{"class": "pii.email", "mask": "redact"}, {"class": "pii.birth", "mask": "redact"}],
}
KEY = SigningKey.generate()
WORKLOAD = Profile("support", "desk", {"team": "support"})


def resource(kind: str, name: str, spec: dict[str, Any]) -> Resource:
    metadata = {"name": name, "namespace": "support"}
    document = {
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }
    parsed = parse_resource(document)
    assert not isinstance(parsed, list), parsed
    return Resource(parsed, "support")


def made(sequence: int, classification: dict[str, Any], policy: dict[str, Any]) -> bytes:
    resources = [
        resource("DataClassification", "shop", classification),
        resource("DatabaseAccessPolicy", "desk", policy),
    ]
    compiled = compile_profile(resources, WORKLOAD)
    assert not compiled.errors
    return bundle(
        compiled,
        sequence=sequence,
        issued_at=datetime.now(UTC),
        profile_id=WORKLOAD.id,
        max_policy_age_s=86400,
        key=KEY,
    )


@pytest.fixture
async def pod(make_pod, operator, new_database):
    """A pod that stands before one real database, and believes our key as well."""
    one = make_pod(new_database(SCHEMA))
    entries = json.loads(one.variables["SLUICE_DATABASES"])
    one.variables["SLUICE_DATABASES"] = json.dumps([{**entries[0], "name": "support/shop"}])
    trust = json.loads(one.variables["SLUICE_TRUST"])
    trust["keys"][KEY.key_id] = KEY.public_pem
    one.variables["SLUICE_TRUST"] = json.dumps(trust)
    operator.publish(made(1, CLASSIFICATION, POLICY), 1)
    await one.start()
    yield one
    await one.stop_proxy()


async def reported(operator, field: str, check, seconds: float = 25) -> Any:
    found: Any = None
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = operator.reports.document()[field]
                if check(found):
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(found) from None


@pytest.mark.usefixtures("pod")
async def test_columns_are_counted_for_the_owner(operator):
    (found,) = await reported(operator, "databases", lambda many: many and many[0]["columns"])
    # users.id and users.note, events.at and events.what; neither the partition's nor the view's again.
    assert found["columns"] == {"classified": 2, "unreviewed": 4}
    assert found["database"] == "support/shop"
    assert (found["reachable"], found["unreachable"], found["drift"]) == (1, 0, [])
    reviewed = [*CLASSIFICATION["columns"], {"table": "*.*", "column": "*", "class": "public"}]
    operator.publish(made(2, CLASSIFICATION | {"columns": reviewed}, POLICY), 2)
    await reported(
        operator,
        "databases",
        lambda many: many[0]["columns"] == {"classified": 2, "unreviewed": 0},
    )


@pytest.mark.usefixtures("pod")
async def test_masks_and_names_that_do_not_fit_the_catalog_are_told(operator):
    columns = [
        *CLASSIFICATION["columns"],
        {"table": "public.users", "column": "gone", "class": "pii.email"},
        {"table": "public.never", "column": "x", "class": "pii.email"},
    ]
    masks = [{"class": "pii.email", "mask": "redact"}, {"class": "pii.birth", "mask": "email"}]
    operator.publish(made(2, CLASSIFICATION | {"columns": columns}, POLICY | {"masks": masks}), 2)
    (problem,) = await reported(
        operator, "problems", lambda many: any("does not fit" in one["message"] for one in many)
    )
    assert 'column "born" of "public.users"' in problem["message"]
    assert (problem["database"], problem["policies"]) == ("support/shop", ["support/desk"])
    (found,) = await reported(operator, "databases", lambda many: many[0]["drift"])
    assert found["drift"] == [
        'the classification names column "gone" of table "public.users", which does not exist',
        'the classification names table "public.never", which does not exist',
    ]


async def test_database_that_is_away_makes_its_catalog_unreachable_and_nothing_else(
    pod, operator, postgres
):
    await reported(operator, "databases", lambda many: many and many[0]["reachable"])
    name = sql.Identifier(json.loads(pod.variables["SLUICE_DATABASES"])[0]["database"])
    with psycopg.connect(postgres.admin_dsn, autocommit=True) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [name.as_string(admin).strip('"')],
        )
        (found,) = await reported(
            operator, "databases", lambda many: many and many[0]["unreachable"]
        )
        assert "not currently accepting connections" in found["message"]
        report = operator.reports.document()
        # The policy is in force, and nothing is wrong with it.
        assert report["problems"] == []
        assert report["profiles"] == {operator.profile: {"1": 1}}
        admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))
    await reported(operator, "databases", lambda many: many[0]["reachable"])


@pytest.mark.usefixtures("pod")
async def test_content_that_opa_refuses_is_reported_until_other_content_is_in_force(
    operator, signed
):
    broken = {"sluice/broken.rego": b"package sluice.broken\n\nx := not_a_function(1)\n"}
    operator.publish(signed(2, files=broken), 2)
    (failed,) = await reported(operator, "failed", lambda many: many)
    assert (failed["sequence"], failed["count"], failed["pod"]) == (2, 1, "desk-0")
    assert "not_a_function" in failed["message"]
    assert operator.reports.document()["profiles"] == {operator.profile: {"1": 1}}
    operator.publish(made(3, CLASSIFICATION, POLICY), 3)
    await reported(operator, "failed", lambda many: not many)
    await reported(operator, "profiles", lambda many: many == {operator.profile: {"3": 1}})
