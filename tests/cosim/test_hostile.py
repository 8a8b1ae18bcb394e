"""Hostile streams, bus faults, stalls: a few of what `make hostile` and its like run by the million."""

import pytest

from systolith.arch import csr, isa
from systolith.arch.presets import PRESETS
from systolith.bench import bus_faults, campaign_random, fault_program, hostile, hostile_reports
from systolith.bench.campaign_random import STALL_LEVELS, LayerRunner, ProgramRunner, draw_program
from systolith.bench.campaign_totals import Totals, hardware_key
from systolith.bench.mutation_checks import (
    BATCHES,
    CYCLES,
    HANGS,
    STALLED,
    STREAMS,
    STRIDE,
    batch_of,
)
from systolith.bench.random_config import MICRO
from systolith.bench.random_layer import ODD_CONFIGS
from systolith.bench.rtl.jobs import Action, Flag

pytestmark = pytest.mark.cosim

TINY = PRESETS["tiny-4x4"]
WATCHDOG = csr.pack("fault", code=csr.Fault.WATCHDOG, engine=isa.Engine.SEQUENCER)


@pytest.fixture(scope="module")
def devices():
    return hostile.open_devices(TINY)


@pytest.mark.parametrize("number", range(BATCHES))
def test_streams_end_inside_their_windows_and_harm_nobody(seed, number):
    batch = batch_of(TINY, seed, number)
    devices = hostile.open_devices(TINY, batch.base)
    outcomes = batch.run(devices[batch.number % len(devices)])
    accepted = batch.accepted()
    counts, failed = hostile.judge(batch, outcomes, accepted)
    assert not failed, hostile.describe(batch, outcomes, accepted, failed[0])
    assert not hostile_reports.contradictions(batch, outcomes)
    assert counts["cases"] == STREAMS
    assert STREAMS / 4 < counts["accepted by the validator"] < counts["without fault"] < STREAMS


def test_violations_are_seen(devices, seed, monkeypatch):
    """The judge is no rubber stamp: a wrong table, probe or verdict is a failure."""
    batch = hostile.Batch(TINY, seed, 60)
    accepted = batch.accepted()
    outcomes = batch.run(devices[0])
    assert hostile.judge(batch, outcomes, accepted)[1] == []
    assert hostile.judge(batch, outcomes, [True] * 60)[1] != []
    text = hostile.describe(batch, outcomes, accepted, 0)
    assert text.startswith("stream 0: status ")
    monkeypatch.setattr(hostile.Table, "windows", lambda table, config: outside(table))
    outcomes = batch.run(devices[0])
    assert (outcomes["outside"] > 0).all()
    assert len(hostile.judge(batch, outcomes, accepted)[1]) == 60
    monkeypatch.undo()
    monkeypatch.setattr(hostile, "_WIPED", 0x5A)
    outcomes = batch.run(devices[0])
    assert (outcomes["flags"] == Flag.PROBE).all()


@pytest.mark.parametrize("config", [TINY, ODD_CONFIGS["odd-7x3"]], ids=lambda config: config.name)
def test_faults_are_reported_as_golden_does(config, seed):
    assert fault_program.problems(config, seed) == []


def test_wrong_reports_of_faults_are_seen(seed):
    number, items, report = next(fault_program.cases(TINY, seed))
    code, engine, index, addr = report
    for wrong in (None, (code, engine, index + 1, addr), (code, engine, index, addr ^ 1)):
        assert (
            fault_program.problem(TINY, number, items, wrong)
            == f"seed {seed}: {report}, not {wrong}"
        )


def test_reports_that_golden_contradicts_are_seen(devices, seed):
    batch = hostile.Batch(TINY, seed, 60)
    outcomes = batch.run(devices[0])
    oracle = hostile_reports.Oracle(batch)
    compared = [n for n, (code, _) in enumerate(batch.streams) if hostile_reports.in_order(code)]
    faults = [n for n in compared if outcomes[n]["fault"] not in (0, WATCHDOG)]
    assert len(compared) > 30
    assert len(faults) > 3
    for index in faults:
        row = outcomes[index].copy()
        row["fault_index"] += 100
        assert f"stream {index} reports " in oracle.contradiction(index, row)
        row["fault"] = 0
        assert "reports no fault where golden reports " in oracle.contradiction(index, row)
    clean = next(n for n in compared if not outcomes[n]["fault"])
    row = outcomes[clean].copy()
    row["fault"] = 6
    assert oracle.contradiction(clean, row).endswith("where golden reports no fault")


def outside(table):
    windows = hostile.np.zeros(1, hostile.WINDOW)
    windows["addr"] = table.base[7]
    windows["size"] = 1
    return windows


def test_errors_silence_and_resets_of_the_bus_are_reported_and_survived():
    counts, failures = bus_faults.run(TINY, hangs=HANGS, cycles=CYCLES, stride=STRIDE)
    assert not failures, failures[0]
    assert set(counts) == {"cases", *bus_faults.NAMES.values()}


def test_reports_of_bus_errors_are_judged():
    """A report that is one beat or one instruction off is found."""
    subject = bus_faults.subjects(TINY)[0]
    with bus_faults.RtlDevice(TINY, memory_size=bus_faults.MEMORY_BYTES) as device:
        bench = bus_faults.Bench(TINY, subject, device)
        row = Action.READ_ERROR, bus_faults.SLVERR, 50
        (outcome,) = bench.run([row])
        assert bench.wrong(row, outcome) is None
        for name, change in (("fault_addr", 8), ("fault_index", 1), ("fault", 1), ("flags", 8)):
            wrong = outcome.copy()
            wrong[name] += change
            assert bench.wrong(row, wrong) is not None, name
        assert bench.wrong((Action.HANG, 0, 50), outcome) == "fault BUS_READ"


def test_programs_leave_the_same_bytes_at_every_level_of_stalls(seed):
    runner = ProgramRunner(TINY, STALL_LEVELS, every_level=True)
    for number in range(STALLED):
        counts, failures = runner.run(seed + number)
        assert not failures, failures[0]
        assert counts["runs"] == len(STALL_LEVELS)


def test_relaxed_programs_ask_for_what_their_bytes_need(seed):
    program = draw_program(TINY, seed)
    relaxed = program.relaxed(TINY)
    waits = [lag for item in relaxed for lag in item.waits]
    assert len(relaxed) == len(program.instructions)
    assert waits.count(isa.NO_WAIT) > len(waits) / 3
    assert waits.count(isa.NO_WAIT) < len(waits)


def test_layers_run_one_after_the_other(seed):
    counts, failures = LayerRunner(TINY).run(seed)
    assert not failures, failures[0]
    assert counts["cases"] >= 15


COMMANDS = {
    "hostile": (hostile, ["--config", "tiny-4x4", "--streams", "150"], "hostile streams", 150),
    "programs": (campaign_random, ["programs", "--cases", "5"], "random programs", 5),
    "stalls": (campaign_random, ["stalls", "--cases", "2"], "random stalls", 2),
    "bus faults": (
        bus_faults,
        ["--config", "tiny-4x4", "--stride", "301", "--hangs", "3", "--cycles", "99"],
        "bus faults",
        20,
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_go_on_where_they_stopped(name, monkeypatch, tmp_path):
    module, arguments, campaign, cases = COMMANDS[name]
    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs" / "VERIFICATION.md"
    document.write_text("<!-- campaigns: begin --><!-- campaigns: end -->")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hostile, "BATCH", 100)
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    assert module.main() == 0
    first = Totals().entry(campaign, "tiny-4x4", hardware_key(TINY))
    assert first.on_this_hardware == first.counts["cases"] >= cases
    assert module.main() == 0
    second = Totals().entry(campaign, "tiny-4x4", hardware_key(TINY))
    # Random campaigns had enough; bus faults are always the same, and replace those of before.
    assert second.counts == first.counts
    assert f"| {campaign} | `tiny-4x4` |" in document.read_text()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (hostile, ["--config", "tiny-4x4", "--batch", "3", "--stream", "7"]),
        (campaign_random, ["programs", "--seed", "3"]),
    ],
)
def test_one_case_can_be_run_again(module, arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    assert module.main() == 0
    assert "   0  " in capsys.readouterr().out


def test_hardware_is_known_by_its_verilog():
    assert hardware_key(TINY) == hardware_key(TINY) != hardware_key(MICRO)
