"""How the corpus runner judges its counts: a crash, a leak or a loss never looks like success."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from sluice_dev.cache import ROOT


@pytest.fixture(scope="module")
def counts():
    spec = importlib.util.spec_from_file_location("corpus_counts", ROOT / "tests/corpus/counts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def counted(counts, *numbers: int):
    parts = [counts.Part(a, b) for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
    return counts.Counts(*parts)


def test_the_closing_line_is_exactly_as_documented(counts):
    line = counted(counts, 0, 285, 3, 186, 290, 293, 8, 9).line()
    assert line == "corpus: sql leaks 0/285, wire failures 3/186, benign 290/293, clients 8/9"


@pytest.mark.parametrize(
    ("numbers", "good"),
    [
        ((0, 9, 0, 9, 9, 9, 9, 9), True),
        ((1, 9, 0, 9, 9, 9, 9, 9), False),
        ((0, 9, 1, 9, 9, 9, 9, 9), False),
        ((0, 9, 0, 9, 8, 9, 9, 9), False),
        ((0, 9, 0, 9, 9, 9, 8, 9), False),
    ],
)
def test_without_a_ratchet_only_perfection_is_good(counts, numbers, good):
    assert counted(counts, *numbers).judge(None, update=False) is good


def test_a_leak_fails_whatever_the_ratchet_says(counts, tmp_path):
    ratchet = tmp_path / "ratchet.json"
    ratchet.write_text(json.dumps({"wire failures": 9, "benign broken": 9, "clients broken": 9}))
    assert counted(counts, 0, 9, 5, 9, 5, 9, 5, 9).judge(ratchet, update=False)
    assert not counted(counts, 1, 9, 0, 9, 9, 9, 9, 9).judge(ratchet, update=False)


def test_a_count_worse_than_the_ratchet_fails_and_is_named(counts, tmp_path, capsys):
    ratchet = tmp_path / "ratchet.json"
    ratchet.write_text(json.dumps({"wire failures": 1, "benign broken": 0, "clients broken": 0}))
    assert not counted(counts, 0, 9, 1, 9, 8, 9, 9, 9).judge(ratchet, update=False)
    assert "worse than the ratchet: benign broken 1, at most 0" in capsys.readouterr().out


def test_updating_the_ratchet_never_loosens_it(counts, tmp_path):
    ratchet = tmp_path / "ratchet.json"
    ratchet.write_text(json.dumps({"wire failures": 1, "benign broken": 5, "clients broken": 0}))
    counted(counts, 0, 9, 3, 9, 8, 9, 9, 9).judge(ratchet, update=True)
    assert json.loads(ratchet.read_text()) == {
        "wire failures": 1,
        "benign broken": 1,
        "clients broken": 0,
    }
