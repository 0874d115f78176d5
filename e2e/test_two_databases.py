"""One pod, two databases of different classifications: each with its own policies."""

from __future__ import annotations

from sluice_dev.story import MASKED, Story, raw, unmasked


def test_each_database_has_its_own_policy(story: Story):
    other = f"{story.name}-other"
    story.add_database(other)
    story.kubectl.apply(
        story.classification(other),
        story.policy(
            other,
            rules=[{"name": "read", "effect": "allow", "actions": ["select", "session"]}],
            masks=[{"class": "pii.email", "mask": "none"}, {"class": "*", "mask": "redact"}],
            rowFilters=None,
        ),
    )
    story.ready("dcl", other)
    story.ready("dap", other)
    client = story.start(story.pod("desk"))
    truth = raw(story.server)
    assert not unmasked(client.execute(MASKED), truth)
    rows = client.execute(MASKED, session="other", dsn=story.dsn(other))
    assert [row[1] for row in rows] == [row[1] for row in truth]
    assert all(row[2] != real[2] for row, real in zip(rows, truth, strict=True))
    regions = "SELECT count(DISTINCT region) FROM orders"
    assert client.execute(regions) == [[1]]
    assert client.execute(regions, session="other", dsn=story.dsn(other)) == [[3]]
