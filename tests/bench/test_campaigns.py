"""Tools of the campaigns: totals that grow, streams that are what their number says, configurations."""

import random

import pytest

from systolith.arch import isa
from systolith.arch.config import MULTIPLIERS, PROTECTIONS
from systolith.arch.errors import ConfigError, DeviceTimeout
from systolith.bench import campaign_random, campaign_totals, differential
from systolith.bench.campaign_totals import Totals, render
from systolith.bench.random_config import MICRO, find_any_config, random_config
from systolith.bench.stream_mutation import StreamSource
from systolith.golden.device import GoldenDevice

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
    Totals(path).add("walls", "tiny", "bb", {"cases": 9}, following=0, anew=True)
    entry = Totals(path).entry("walls", "tiny", "bb")
    assert (entry.counts, entry.on_this_hardware, entry.failures) == ({"cases": 9}, 9, [])


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


def test_command_renders_the_document(tmp_path, monkeypatch):
    totals, document = tmp_path / "totals.json", tmp_path / "doc.md"
    Totals(totals).add("walls", "tiny", "aa", {"cases": 1}, following=1)
    document.write_text("<!-- campaigns: begin --><!-- campaigns: end -->")
    command = ["campaign_totals", "--totals", str(totals), "--document", str(document)]
    monkeypatch.setattr("sys.argv", command)
    campaign_totals.main()
    assert "| walls | `tiny` | 1 | 1 | 0 |  |" in document.read_text()


class Stand(GoldenDevice):
    """A golden device in place of the hardware; from run number `wrong` on, a byte is inverted."""

    wrong = 1 << 30
    runs = 0

    def __init__(self, config, *, stall=0.0, seed=0, latency=1, memory_size=1 << 20):
        super().__init__(config, memory_size=memory_size, trace=self.spoil)
        self.cycle = 0

    def spoil(self, index, item):
        if isinstance(item, isa.Halt):
            return
        if index == 0:
            type(self).runs += 1
        if self.runs >= self.wrong:
            self.machine.scratchpad[5] ^= 1


@pytest.fixture
def stand(monkeypatch, tmp_path):
    """Campaigns without a simulator, in a folder of their own."""

    class Device(Stand):
        pass

    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs" / "VERIFICATION.md"
    document.write_text("<!-- campaigns: begin --><!-- campaigns: end -->")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(campaign_random, "RtlDevice", Device)
    monkeypatch.setattr(campaign_random, "hardware_key", lambda config: "aa")
    return Device


def command(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["campaign_random", *arguments])
    return campaign_random.main()


def test_program_that_differs_is_a_failure_with_its_command(stand, monkeypatch):
    stand.wrong = 3
    assert command(monkeypatch, "programs", "--config", "micro-4x3", "--cases", "4") == 3
    entry = Totals().entry("random programs", "micro-4x3", "aa")
    assert entry.counts["cases"] == 4
    assert len(entry.failures) == 2
    for seed, failure in zip((2, 3), entry.failures, strict=True):
        assert f"program {seed} on micro-4x3, stall 0." in failure
        assert "bytes of region" in failure
        assert failure.endswith(
            f"`python -m systolith.bench.campaign_random programs --config micro-4x3 --seed {seed}`"
        )


def test_device_that_hangs_is_a_failure(stand, monkeypatch):
    def hang(self, timeout_s):
        raise DeviceTimeout("no interrupt")

    monkeypatch.setattr(stand, "wait_interrupt", hang)
    assert command(monkeypatch, "stalls", "--config", "micro-4x3", "--cases", "1") == 3
    entry = Totals().entry("random stalls", "micro-4x3", "aa")
    assert len(entry.failures) == len(campaign_random.STALL_LEVELS)
    assert "stall 0.9: no interrupt; `" in entry.failures[-1]
    assert command(monkeypatch, "layers", "--cases", "1") == 3


def test_layer_that_differs_only_in_this_state_is_said_so(stand, monkeypatch):
    stand.wrong = 2
    monkeypatch.setattr(campaign_random, "kinds_for", lambda config: ("add",))
    monkeypatch.setattr(differential, "compare_rtl", lambda case, config, seed: None)
    assert command(monkeypatch, "layers", "--cases", "2") == 3
    (failure,) = Totals().entry("random layers", "tiny-4x4", "aa").failures
    assert "add of seed 1, segment 0, on tiny-4x4: differs only behind the layers" in failure


def test_random_configurations_run_programs_and_layers_once_each(stand, monkeypatch):
    monkeypatch.setattr(campaign_random, "PROGRAMS_OF_A_CONFIG", 2)
    monkeypatch.setattr(campaign_random, "LAYERS_OF_A_CONFIG", 3)
    monkeypatch.setattr(campaign_random, "kinds_for", lambda config: ("add", "convolution"))
    for configs in (2, 3, 3):
        assert command(monkeypatch, "configs", "--cases", str(configs)) == 0
    for seed in range(3):
        for campaign, least in (("random programs", 2), ("random layers", 3)):
            entry = Totals().entry(campaign, f"random-{seed}", "aa")
            assert least <= entry.counts["cases"] <= least + 1
    assert command(monkeypatch, "configs", "--cases", "4", "--minutes", "0") == 0
    assert not Totals().entry("random programs", "random-3", "aa").counts


def test_random_configurations_are_legal_and_of_every_kind():
    configs = [random_config(seed) for seed in range(CONFIGS)]
    assert random_config(7) == configs[7]
    assert len({config.digest for config in configs}) == CONFIGS
    assert {config.multiplier for config in configs} == set(MULTIPLIERS)
    assert {config.protection for config in configs} == set(PROTECTIONS)
    assert {config.deep_pipeline for config in configs} == {False, True}
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
    assert find_any_config("tiny-4x4-deep").deep_pipeline
    assert find_any_config("random-12") == random_config(12)
    for name in ("random-", "random-x", "nothing", "nothing-deep"):
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
