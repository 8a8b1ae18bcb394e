"""The command of the soft errors' bench: what it runs, counts and refuses."""

import sys

import pytest

from systolith.arch.config import PROTECTIONS
from systolith.bench.campaign_totals import Totals
from systolith.bench.flips import __main__ as flips
from systolith.bench.flips import campaign, cost
from systolith.bench.flips.blocks import array_block
from systolith.bench.random_config import PROTECTED

BLOCK = array_block(4, 4, 1)


class Injector:
    """A whole accelerator in which flips do what a test wants."""

    key = "aa"
    failures = ()
    closed = 0

    def __init__(self, config):
        assert config == PROTECTED

    def run(self, seed, flips):
        return {"cases": flips, "memories: noticed": flips}, [f"{seed} {f}" for f in self.failures]

    def close(self):
        Injector.closed += 1


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Return what runs the command, with totals and document in a folder of their own."""
    totals, document = tmp_path / "totals.json", tmp_path / "document.md"
    document.write_text("<!-- soft errors: begin -->\n<!-- soft errors: end -->\n")
    monkeypatch.setattr(flips, "CoreInjector", Injector)
    monkeypatch.setattr(flips, "all_blocks", lambda: [(BLOCK, 1.0)])
    monkeypatch.setattr(campaign, "all_blocks", lambda: [(BLOCK, 1.0)])

    def run(*arguments):
        files = ("--totals", str(totals), "--document", str(document))
        monkeypatch.setattr(sys, "argv", ["flips", *arguments, *files])
        return flips.main(), Totals(totals), document.read_text()

    return run


def test_flips_of_a_whole_accelerator_add_up(command):
    for flips_in_all in (150, 250, 250):
        code, totals, document = command("core", "--flips", str(flips_in_all))
        assert code == 0
    entry = totals.entry("core", PROTECTED.name, "aa")
    assert (entry.counts["cases"], entry.next, Injector.closed) == (300, 3, 3)
    assert "| all | 300 | 0 | 300 | 0 | 0 |" in document


def test_a_program_that_ends_wrongly_fails(command, monkeypatch):
    monkeypatch.setattr(Injector, "failures", ("is wrong",))
    code, totals, _ = command("core", "--flips", "100")
    assert code == 3
    assert totals.failures() == ["0 is wrong"]


@pytest.mark.cosim
def test_flips_of_blocks_are_counted_and_shown(command, capsys):
    code, totals, document = command("blocks", "--flips", "300")
    assert code == 0
    assert totals.entry(campaign.CAMPAIGN, BLOCK.name, "").counts["cases"] == 500
    assert "| array 4x4 | 500 |" in document
    assert command("table", "--flips", "300")[2] == document
    assert command("replay", "--block", BLOCK.name, "--batch", "7")[0] == 0
    assert "'cases': 500" in capsys.readouterr().out


def test_costs_are_those_of_each_protection(command, monkeypatch, capsys):
    (array, *_) = cost.designs(PROTECTED).items()
    monkeypatch.setattr(cost, "designs", lambda config: dict([array]))
    monkeypatch.setattr(flips, "PRESETS", {"edge-16x16": PROTECTED})
    assert command("cost")[0] == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[1] for row in rows] == [f"`{level}`" for level in PROTECTIONS]
    flip_flops = [int(row[2].replace(",", "")) for row in rows]
    assert flip_flops == sorted(flip_flops)
    assert [row[4] for row in rows] == ["12", "12", "16", "16"]


def test_a_block_that_does_not_exist_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        command("replay", "--block", "array 5x5")
    assert "invalid choice: 'array 5x5'" in capsys.readouterr().err
