"""One broken policy of many is that policy's trouble alone, and its last valid version still holds."""

from __future__ import annotations

import json
from collections.abc import Generator

import pytest

from sluice_dev.kubectl import DeniedError, PodClient, until
from sluice_dev.story import SHOP, Document, Story

MANY = 30
BROKEN = 7
VALUE = "abcdefghij"
WEBHOOK = "validatingwebhookconfiguration"


def _table(number: int) -> str:
    return f"public.many{number:02d}"


def _classification(story: Story) -> Document:
    document = story.classification()
    document["spec"]["columns"] += [
        {"table": _table(number), "column": "note", "class": f"many.note{number:02d}"}
        for number in range(MANY)
    ]
    return document


def _policy(story: Story, number: int, mask: object) -> Document:
    """Each admits to a table of its own, and masks the class of that table."""
    return story.policy(
        f"{story.name}-{number:02d}",
        rules=[
            {"name": "read", "effect": "allow", "actions": ["select"], "tables": [_table(number)],
             "classes": [f"many.note{number:02d}"]}
        ],
        masks=[{"class": f"many.note{number:02d}", "mask": mask}],
        rowFilters=None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def client(blank: Story) -> PodClient:
    story = blank
    story.open()
    tables: list[str] = []
    for number in range(MANY):
        tables.append(f"CREATE TABLE {_table(number)} AS SELECT '{VALUE}'::text AS note;")
        tables.append(f"GRANT SELECT ON {_table(number)} TO support_ro;")
    story.server.psql("\n".join(tables), story.name)
    every = [_policy(story, number, {"first": 2}) for number in range(MANY)]
    story.kubectl.apply(_classification(story), *every)
    for number in (0, BROKEN, MANY - 1):
        story.ready("dap", f"{story.name}-{number:02d}")
    return story.start(story.pod("desk"))


def _note(client: PodClient, number: int) -> str:
    try:
        return str(client.execute(f"SELECT note FROM {_table(number)}")[0][0])
    except DeniedError as error:
        return f"error {error.sqlstate}"


@pytest.fixture
def unseen(blank: Story) -> Generator[None]:
    """What the webhook would refuse gets in, as it does when it was stored under an older version."""
    found = blank.kubectl.get(WEBHOOK, "sluice")
    index = next(
        i for i, one in enumerate(found["webhooks"]) if one["name"] == "resources.sluice.dev"
    )
    path = f"/webhooks/{index}/objectSelector"
    nobody = {"matchLabels": {"never": "there"}}
    patch = json.dumps([{"op": "replace", "path": path, "value": nobody}])
    blank.kubectl("patch", WEBHOOK, "sluice", "--type=json", "-p", patch)
    yield
    patch = json.dumps([{"op": "replace", "path": path, "value": {}}])
    blank.kubectl("patch", WEBHOOK, "sluice", "--type=json", "-p", patch)


def _broken(story: Story) -> Document:
    document = _policy(story, BROKEN, "none")
    document["spec"]["rowFilters"] = [{"table": _table(BROKEN), "where": "1=1) OR (true"}]
    return document


def _taken(story: Story, document: Document) -> bool:
    """The API server takes a change of the webhook's configuration up after a moment."""
    return not story.kubectl.refusal_of_change(document)


@pytest.mark.usefixtures("unseen")
def test_broken_policy_keeps_its_last_version_and_stops_no_other(blank: Story, client: PodClient):
    story = blank
    assert [_note(client, number) for number in range(MANY)] == [_first(2)] * MANY
    until(lambda: _taken(story, _broken(story)), within_s=20, what="the webhook looks away")
    name = f"{story.name}-{BROKEN:02d}"

    def told() -> Document | None:
        found = story.kubectl.get("-n", SHOP, "dap", name)
        compiled = story.condition("dap", name, "Compiled")
        fresh = found["status"]["observedGeneration"] == found["metadata"]["generation"]
        return compiled if fresh and compiled.get("status") == "False" else None

    compiled = until(told, within_s=30)
    assert "rowFilters" in compiled["message"], compiled

    others = [number for number in range(MANY) if number != BROKEN]
    story.kubectl.apply(*(_policy(story, number, {"last": 3}) for number in others))
    until(lambda: {_note(client, number) for number in others} == {_last(3)}, within_s=60)
    # The 29 changed while the one was broken, and what it said when it was sound still holds.
    assert _note(client, BROKEN) == _first(2)
    for number in (0, MANY - 1):
        assert story.ready("dap", f"{story.name}-{number:02d}")
    # Also for a pod that never saw the sound version in force.
    late = story.start(story.pod("late"))
    assert _note(late, BROKEN) == _first(2)
    assert _note(late, 0) == _last(3)


def test_mended_policy_comes_into_force(blank: Story, client: PodClient):
    story = blank
    story.kubectl.apply(_policy(story, BROKEN, {"last": 4}))
    until(lambda: _note(client, BROKEN) == _last(4), within_s=30)
    story.ready("dap", f"{story.name}-{BROKEN:02d}")
    assert story.restarts("desk") == 0


def _first(shown: int) -> str:
    return f"{VALUE[:shown]}***"  # How long the value is stays hidden as well.


def _last(shown: int) -> str:
    return f"***{VALUE[-shown:]}"
