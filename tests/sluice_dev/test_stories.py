"""Which stories run beside each other."""

from __future__ import annotations

from sluice_dev.stories import ALONE, chosen, shares


def test_every_story_is_dealt_once():
    dealt = [one for share in shares(chosen(())) for one in share]
    assert sorted([*dealt, *ALONE]) == chosen(())


def test_a_part_of_a_name_chooses():
    assert chosen(["policy_ch"]) == ["policy_change"]
    assert chosen(["nothing like it"]) == []
    assert shares(["policy_change"]) == []
