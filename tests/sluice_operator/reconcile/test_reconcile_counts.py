"""Counts, statuses, numbers: without a cluster."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from sluice_operator.bundle_names import bundle_name
from sluice_operator.reconcile.census import Count, Reach, census
from sluice_operator.reconcile.model import (
    CatalogFinding,
    GovernedPod,
    RawResource,
    Report,
    StoredBundle,
    Verdict,
)
from sluice_operator.reconcile.parsing import PodReader, report, seconds_of, time_text
from sluice_operator.reconcile.publishing import Idle, cause, next_sequence
from sluice_operator.reconcile.statuses import differs, status_of
from sluice_policy import Profile

WEB = Profile("shop", "default", {"app": "web"})
NOW = 1_800_000_000.0


def stored(sequence=10, since=8, revision="r", issued_at=NOW, trust="t"):
    return StoredBundle(
        profile_id=WEB.id,
        name=bundle_name(WEB.id),
        sequence=sequence,
        since=since,
        revision=revision,
        issued_at=issued_at,
        trust=trust,
        resource_version="1",
    )


def pod(name, databases=None, *, leaving=False):
    return GovernedPod(
        namespace="shop",
        name=name,
        uid=name,
        profile=WEB,
        profile_id=WEB.id,
        databases=databases or {"shop/shop": 1},
        leaving=leaving,
    )


def counted(pods, reports):
    reach = {WEB.id: Reach(frozenset({"shop/app"}), frozenset({"shop/shop"}))}
    return census(pods, reports, {WEB.id: stored()}, reach, NOW)


def test_signed_again_is_not_stale():
    reports = [Report(replica="a", at=NOW, counts={WEB.id: {7: 1, 8: 1, 10: 1}})]
    counts = counted([pod("a"), pod("b"), pod("c"), pod("d", leaving=True)], reports)
    assert counts.of_policy("shop/app") == Count(expected=3, current=2)
    assert counts.of_policy("shop/app").stale == 1
    assert counts.of_policy("other/app") == Count()


def test_reports_that_were_not_renewed_count_for_nothing():
    reports = [Report(replica="a", at=NOW - 200, counts={WEB.id: {10: 1}})]
    assert counted([pod("a")], reports).of_policy("shop/app").current == 0


def test_more_reports_than_pods_are_no_more_than_all():
    reports = [Report(replica=r, at=NOW, counts={WEB.id: {10: 2}}) for r in "ab"]
    assert counted([pod("a")], reports).of_policy("shop/app") == Count(expected=1, current=1)


@given(st.integers(0, 2**40) | st.none(), st.floats(0, 2**33))
def test_sequences_only_rise(last, now):
    number = next_sequence(last, now)
    assert number > (last or 0)
    assert number >= int(now)
    assert next_sequence(number, now - 3600) > number


def test_bundle_is_written_for_a_reason():
    def why(revision="r", present=None, now=NOW, trust="t"):
        return cause(revision, present or stored(), trust=trust, now=now, renew_s=100)

    assert cause("r", None, trust="t", now=NOW, renew_s=100) == "new"
    assert why() is None
    assert why("other") == "content"
    assert why(trust="u") == "trust"
    assert why(now=NOW + 89) is None
    assert why(now=NOW + 100) == "age"
    assert why(now=NOW - 101) == "age"  # A clock that was ahead.


def test_idle_bundles_have_an_hour():
    idle, present = Idle(3600), {WEB.id: stored()}
    assert idle.expired(present, set(), NOW) == []
    assert idle.expired(present, set(), NOW + 3599) == []
    assert idle.expired(present, {WEB.id}, NOW + 3600) == []
    assert idle.expired(present, set(), NOW + 3601) == []
    assert idle.expired(present, set(), NOW + 7201) == [WEB.id]


RAW = RawResource(
    kind="DatabaseAccessPolicy",
    namespace="shop",
    name="app",
    uid="u",
    generation=3,
    created="2026-01-01T00:00:00Z",
)


def test_unchanged_condition_keeps_its_moment():
    good = Verdict(reason="Compiled", in_force=3)
    first = status_of(RAW, good, Count(1, 0), present={}, now="then")
    assert differs(None, first)
    second = status_of(RAW, good, Count(1, 1), present=first, now="now")
    moments = {one["type"]: one["lastTransitionTime"] for one in second["conditions"]}
    assert moments == {"Ready": "then", "Compiled": "then", "Enforced": "now"}
    assert differs(first, second)
    third = status_of(RAW, good, Count(1, 1), present=second, now="later")
    assert not differs({**second, "columns": {"classified": 3}}, third)


def finding(**more):
    given = {"reachable": 1, "unreachable": 0, "message": "", "sequence": 9, "classified": 2}
    return CatalogFinding(
        profile_id=WEB.id, database="shop/shop", **{**given, "unreviewed": 5, **more}
    )


def told(*findings):
    spec = {"database": {"catalogSecretRef": {"name": "reader"}}}
    raw = replace(RAW, kind="DataClassification", name="shop", spec=spec)
    reports = [
        Report(replica=str(n), at=NOW, catalogs=(one,), counts={}) for n, one in enumerate(findings)
    ]
    count = counted([pod("a")], reports).of_database("shop/shop", None)
    status = status_of(raw, Verdict(reason="Compiled", in_force=3), count, present={}, now="now")
    conditions = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    return status.get("columns"), conditions["CatalogReachable"], conditions["Drifted"]


def test_columns_are_those_of_whoever_works_under_the_newest_policy():
    newest = finding(sequence=10, classified=3, unreviewed=0)
    columns, reachable, drifted = told(finding(), newest, finding(sequence=8))
    assert columns == {"classified": 3, "suggested": 0, "unreviewed": 0}
    assert reachable == ("True", "Reachable")
    assert drifted == ("False", "NamesFound")


def test_catalog_that_one_sidecar_cannot_read_is_told():
    away = finding(reachable=0, unreachable=1, message="no route", classified=None)
    columns, reachable, _ = told(finding(), away)
    assert columns == {"classified": 2, "suggested": 0, "unreviewed": 5}
    assert reachable == ("False", "Unreachable")
    assert told(away)[0] is None
    assert told()[1] == ("Unknown", "NoSidecars")


def test_sidecars_are_not_heard_about_databases_that_do_not_admit_them():
    columns, reachable, _ = told(replace(finding(), profile_id="evil/default/000000000000"))
    assert (columns, reachable) == (None, ("Unknown", "NoSidecars"))


def test_pods_are_read_only_when_their_annotations_agree():
    reader = PodReader()
    annotations = {
        "sluice.dev/injected": "1",
        "sluice.dev/profile": WEB.id,
        "sluice.dev/identity": '{"labels":{"app":"web"},"serviceAccount":"default"}',
        "sluice.dev/databases": '{"shop/shop":3}',
    }

    def read(**changes):
        metadata = {
            "namespace": "shop",
            "name": "web",
            "uid": "u",
            "annotations": {**annotations, **changes},
        }
        return reader.read({"metadata": metadata})

    good = read()
    assert good.profile == WEB
    assert good.databases == {"shop/shop": 3}
    assert read().databases is good.databases
    assert read(**{"sluice.dev/profile": "shop/default/000000000000"}) is None
    assert read(**{"sluice.dev/identity": "{}"}) is None
    assert read(**{"sluice.dev/databases": '{"a/b": "x"}'}) is None
    assert reader.read({"metadata": {"namespace": "shop", "name": "web", "uid": "u"}}) is None


@given(st.text())
def test_any_report_is_read_or_refused(text):
    assert report({"metadata": {"name": "r"}, "data": {"report.json": text}}) is None


@given(st.integers(0, 4_000_000_000))
def test_times_survive_their_text(seconds):
    assert seconds_of(time_text(seconds)) == seconds
    assert seconds_of("yesterday") == 0
