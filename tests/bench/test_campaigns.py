"""Tools of the campaigns: totals that grow, streams that are what their number says, configurations."""

import random

import pytest

from systolith.arch import isa
from systolith.arch.errors import ConfigError
from systolith.bench.campaign_totals import Totals, render
from systolith.bench.random_config import MICRO, find_any_config, random_config
from systolith.bench.stream_mutation import StreamSource

CONFIGS = 200


def test_totals_grow_and_start_again_for_other_hardware(tmp_path):
    path = tmp_path / "totals.json"
    Totals(path).add("walls", "tiny", "aa", {"cases": 3, "faults": 1}, following=1)
    Totals(path).add("walls", "tiny", "aa", {"cases": 2}, following=2, failures=["it broke"])
    entry = Totals(path).entry("walls", "tiny", "aa")
    assert (entry.counts, entry.next) == ({"cases": 5, "faults": 1}, 2)
    assert (entry.on_this_hardware, entry.failures) == (5, ["it broke"])
    other = Totals(path).entry("walls", "tiny", "bb")
    assert (other.counts["cases"], other.next, other.on_this_hardware) == (5, 2, 0)
    assert Totals(path).entry("walls", "small", "aa").next == 0


def test_document_shows_totals_and_failures(tmp_path):
    totals = Totals(tmp_path / "totals.json")
    totals.add("walls", "tiny", "aa", {"cases": 4200, "faults": 7}, following=1, failures=["broke"])
    for seed in range(2):
        totals.add("programs", f"random-{seed}", "aa", {"cases": 5}, following=1)
    document = tmp_path / "doc.md"
    document.write_text("before\n<!-- campaigns: begin -->\nold\n<!-- campaigns: end -->\nafter\n")
    render(totals, document)
    render(totals, document)
    text = document.read_text()
    assert text.startswith("before\n<!-- campaigns: begin -->\n| campaign |")
    assert text.endswith("- broke\n<!-- campaigns: end -->\nafter\n")
    assert "| walls | `tiny` | 4,200 | 4,200 | 1 | 7 faults |" in text
    assert "| programs | 2 random configurations | 10 | 10 | 0 |  |" in text
    assert "old" not in text


def test_random_configurations_are_legal_and_of_every_kind():
    configs = [random_config(seed) for seed in range(CONFIGS)]
    assert random_config(7) == configs[7]
    assert len({config.digest for config in configs}) == CONFIGS
    assert any(config.rows > config.cols for config in configs)
    assert any(config.rows < config.cols for config in configs)
    for field, values in {
        "feeds": {1, 2, 3, 4},
        "axi_data_bits": {32, 64, 128, 256},
        "banks": {2, 4, 8, 16},
        "queue_depth": {2, 4, 8, 16, 32},
    }.items():
        assert {getattr(config, field) for config in configs} >= values, field


def test_configurations_are_found_by_name():
    assert find_any_config("micro-4x3") is MICRO
    assert find_any_config("tiny-4x4").rows == 4
    assert find_any_config("random-12") == random_config(12)
    for name in ("random-", "random-x", "nothing"):
        with pytest.raises(ConfigError, match="must be one of"):
            find_any_config(name)


def test_streams_are_those_of_their_seed_and_of_every_kind():
    groups = [[isa.Geometry().encode(), isa.Pass().encode()], [isa.Load().encode()]]

    def draw(seed):
        source = StreamSource(groups, random.Random(seed))
        return [source.draw() for _ in range(3000)]

    streams = draw(1)
    assert streams == draw(1) != draw(2)
    legal = {word for group in groups for word in group} | {isa.Halt().encode()}
    unchanged = illegal = 0
    for code, count in streams:
        assert len(code) % isa.INSTRUCTION_BYTES == 0
        words = [int.from_bytes(code[n : n + 32], "little") for n in range(0, len(code), 32)]
        unchanged += set(words) <= legal and count == len(words)
        illegal += any(word & 0xFF not in isa.INSTRUCTIONS for word in words)
    assert unchanged > 500
    assert illegal > 50
    assert sum(count * 32 != len(code) for code, count in streams) > 30
