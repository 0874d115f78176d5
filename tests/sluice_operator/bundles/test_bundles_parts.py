"""Parts of the bundle service that need no API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_operator.bundle_names import bundle_name
from sluice_operator.bundles.callers import Caller
from sluice_operator.bundles.refusals import Refusal
from sluice_operator.bundles.reports import DENIALS_MAX, SILENT_MAX_S, Reports
from sluice_operator.bundles.service import wait_s
from sluice_operator.bundles.shelf import Offer, Shelf
from sluice_operator.bundles.statuses import parse_status
from sluice_operator.kube.bundle_store import ObjectMeta, StoredBundle
from sluice_operator.kube.errors import UnavailableError

STATUS_SCHEMA = json.loads(
    (Path(__file__).parents[3] / "operator" / "contract" / "status.schema.json").read_text()
)
PROFILE = "support/desk/0123456789ab"

texts = st.text(max_size=6)
problem = st.fixed_dictionaries(
    {"database": texts, "message": texts},
    optional={"policies": st.lists(texts, max_size=2) | st.none()},
)
revisions = st.sampled_from(["a" * 64, "a" * 63])
failed = st.fixed_dictionaries(
    {"sequence": st.integers(0, 3), "revision": revisions, "message": texts}
)
columns = st.fixed_dictionaries({"classified": st.integers(-1, 3), "unreviewed": st.integers(0, 3)})
catalog = st.fixed_dictionaries(
    {"name": texts, "reachable": st.booleans()},
    optional={
        "message": texts,
        "columns": columns | st.none(),
        "drift": st.lists(texts, max_size=2),
        "more": st.none(),
    },
)
denial = st.fixed_dictionaries(
    {
        "database": texts,
        "policy": texts,
        "rule": texts,
        "message": texts,
        "count": st.integers(-1, 3),
    }
)
statuses = st.fixed_dictionaries(
    {
        "contract": st.sampled_from([1, 1, 1, 2, "1"]),
        "profile": texts,
        "sequence": st.one_of(st.none(), st.integers(-1, 5), st.booleans()),
        "revision": st.sampled_from([None, "a" * 64, "a" * 63, "A" * 64, "a" * 64 + "\n"]),
        "ready": st.sampled_from([True, False, 1, "yes"]),
        "problems": st.lists(problem, max_size=2),
        "denials": st.lists(denial, max_size=2),
    },
    optional={
        "more": st.none(),
        "failed": failed | st.none(),
        "databases": st.lists(catalog, max_size=2),
    },
)


@given(statuses)
def test_statuses_are_judged_as_the_schema_says(document):
    # JSON Schema counts 1.0 and true apart from what JSON itself does; what it accepts is what is accepted.
    sound = not list(jsonschema.Draft202012Validator(STATUS_SCHEMA).iter_errors(document))
    if sound and document["revision"] is not None and document["revision"].endswith("\n"):
        sound = False  # "$" of Python's regular expressions.
    raw = json.dumps(document).encode()
    if sound:
        parse_status(raw)
        return
    with pytest.raises(Refusal) as refused:
        parse_status(raw)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("wait=5", 5), ("respond-async; WAIT=7", 7), ("wait=900", 60), ("wait=-1", 0), ("", 0)],
)
def test_prefer_asks_for_a_bounded_wait(text, seconds):
    assert wait_s(text) == seconds


def caller(uid: str = "u1", pod: str = "desk-0") -> Caller:
    return Caller(
        profile=PROFILE,
        namespace="support",
        service_account="desk",
        pod=pod,
        pod_uid=uid,
        labels={},
        expires_at=0,
    )


def status(*denials: dict[str, Any], sequence: int = 1):
    document = {
        "contract": 1,
        "profile": PROFILE,
        "sequence": sequence,
        "revision": "a" * 64,
        "ready": True,
        "problems": [],
        "denials": list(denials),
    }
    return parse_status(json.dumps(document).encode())


def denied(message: str, count: int = 1) -> dict[str, Any]:
    return {"database": "s/s", "policy": "", "rule": "", "message": message, "count": count}


def test_denials_are_numbered_once_and_the_ring_is_bounded():
    now = [0.0]
    reports = Reports(clock=lambda: now[0])
    for number in range(DENIALS_MAX + 20):
        now[0] += 1
        reports.take(caller(), status(denied(f"reason {number}")))
    kept = reports.document()["denials"]
    numbers = [entry["n"] for entry in kept]
    assert len(kept) == DENIALS_MAX
    assert numbers == sorted(set(numbers))
    assert kept[-1]["message"] == f"reason {DENIALS_MAX + 19}"


def test_same_denial_is_counted_together_until_it_was_written():
    now = [0.0]
    reports = Reports(clock=lambda: now[0])
    for _ in range(3):
        now[0] += 1
        reports.take(caller(), status(denied("no", 2)))
    [entry] = reports.document()["denials"]
    assert entry["count"] == 6
    now[0] += 1
    reports.take(caller(), status(denied("no")))
    assert [one["count"] for one in reports.document()["denials"]] == [6, 1]


def test_silent_sidecars_are_not_counted_and_equal_reports_are_no_news():
    now = [0.0]
    reports = Reports(clock=lambda: now[0])
    reports.take(caller(), status())
    assert reports.changed.is_set()
    assert reports.document()["profiles"] == {PROFILE: {"1": 1}}
    now[0] += 30
    reports.take(caller(), status())
    assert not reports.changed.is_set()
    now[0] += SILENT_MAX_S + 1
    assert reports.document()["profiles"] == {}


class Stored:
    """Bundles as the controller stored them."""

    def __init__(self) -> None:
        self.bundles: dict[str, StoredBundle] = {}
        self.reads = 0
        self.failing = False

    async def fetch(self, name: str) -> StoredBundle | None:
        self.reads += 1
        if self.failing:
            raise UnavailableError("away")
        await asyncio.sleep(0)
        return self.bundles.get(name)

    def put(self, sequence: int, profile: str = PROFILE) -> ObjectMeta:
        annotations = {
            "sluice.dev/profile": profile,
            "sluice.dev/sequence": str(sequence),
            "sluice.dev/revision": f"{sequence:064x}",
        }
        name = bundle_name(profile)
        meta = ObjectMeta("sluice-system", name, "uid", annotations)
        self.bundles[name] = StoredBundle(meta, f"bundle {sequence}".encode())
        return meta


Waiting = Callable[..., Awaitable[Offer | None]]


async def test_a_change_is_read_once_for_all_polls_of_a_profile():
    stored = Stored()
    shelf = Shelf(stored.fetch)
    shelf.put(stored.put(1))
    first = await shelf.wait(PROFILE, "u0", None, 5)
    assert first is not None
    polls = [
        asyncio.create_task(shelf.wait(PROFILE, f"u{number}", first.etag, 5))
        for number in range(500)
    ]
    await asyncio.sleep(0)
    assert shelf.polls == 500
    shelf.put(stored.put(2))
    offers = await asyncio.gather(*polls)
    assert {id(offer) for offer in offers} == {id(offers[0])}
    assert offers[0] is not None
    assert offers[0].sequence == 2
    assert stored.reads == 2
    assert shelf.polls == 0


async def test_stored_bundle_is_had_without_asking_to_wait():
    stored = Stored()
    shelf = Shelf(stored.fetch)
    assert await shelf.wait(PROFILE, "u1", None, 0) is None
    shelf.put(stored.put(1))
    offer = await shelf.wait(PROFILE, "u1", None, 0)
    assert offer is not None


async def test_profiles_that_nobody_asks_for_are_not_read():
    stored = Stored()
    shelf = Shelf(stored.fetch)
    for number in range(50):
        shelf.put(stored.put(1, profile=f"ns/sa/{number:012x}"))
    await asyncio.sleep(0.01)
    assert (stored.reads, shelf.profiles) == (0, 50)


async def test_a_third_poll_of_a_pod_ends_its_oldest():
    shelf = Shelf(Stored().fetch)
    polls = [asyncio.create_task(shelf.wait(PROFILE, "u1", None, 30)) for _ in range(3)]
    async with asyncio.timeout(1):
        assert await polls[0] is None
    assert shelf.polls == 2
    shelf.end()
    assert await asyncio.gather(*polls[1:]) == [None, None]
    assert shelf.polls == 0


async def test_bundle_that_cannot_be_read_now_is_read_again():
    stored = Stored()
    shelf = Shelf(stored.fetch)
    stored.failing = True
    shelf.put(stored.put(1))
    poll = asyncio.create_task(shelf.wait(PROFILE, "u1", None, 10))
    await asyncio.sleep(0.1)
    stored.failing = False
    offer = await poll
    assert offer is not None
    assert offer.content == b"bundle 1"
    await shelf.stop()


async def test_config_map_that_lies_about_its_profile_is_passed_over():
    stored = Stored()
    shelf = Shelf(stored.fetch)
    meta = stored.put(1)
    other = ObjectMeta(meta.namespace, bundle_name("other/x/0"), "uid", meta.annotations)
    shelf.put(other)
    assert shelf.profiles == 0
