"""Bus models of the RTL device, around a core that copies one burst and can misbehave."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from systolith.arch.errors import DeviceError, DeviceTimeout, ToolchainError
from systolith.bench import coverage_data
from systolith.bench.rtl import RtlDevice, build, pins
from systolith.bench.rtl.device import MEMORY_BASE

pytestmark = pytest.mark.cosim

COPIER = Path(__file__).with_name("copier.v").read_text()
BASE = MEMORY_BASE
START, ENABLE, STATUS, SOURCE, LENGTH, MISCHIEF, TARGET, RESPONSES = (
    0x040, 0x048, 0x04C, 0x080, 0x088, 0x08C, 0x090, 0x098,
)  # fmt: skip
BEAT = 8
_AWADDR = "m_axi_gmem_awaddr"


@pytest.fixture
def open_device(tiny):
    """Return a maker of devices with the copying core; they are closed after the test."""
    devices = []

    def make(**options):
        devices.append(RtlDevice(tiny, verilog=COPIER, memory_size=1 << 16, **options))
        return devices[-1]

    yield make
    for device in devices:
        device.close()


def copy(device, source, target, beats, *, mischief=0):
    """Copy `beats` beats; return the cycles from the doorbell to the interrupt."""
    for register, addr in ((SOURCE, BASE + source), (TARGET, BASE + target)):
        device.write_register(register, addr & 0xFFFFFFFF)
        device.write_register(register + 4, addr >> 32)
    device.write_register(LENGTH, beats - 1)
    device.write_register(MISCHIEF, mischief)
    device.write_register(STATUS, 1)
    device.write_register(ENABLE, 1)
    device.write_register(START, 1)
    start = device.cycle
    device.wait_interrupt(10)
    return device.cycle - start


def pattern(rng, beats):
    return rng.bytes(beats * BEAT)


def test_burst_is_copied_and_nothing_beside_it(open_device, rng):
    device = open_device()
    data = pattern(rng, 16)
    device.write_memory(BASE + 0x1000, data)
    copy(device, 0x1000, 0x2008, 16)
    assert device.read_memory(BASE + 0x2000, 18 * BEAT) == bytes(BEAT) + data + bytes(BEAT)
    assert (device.violations, device.first_violation) == (0, "")


@pytest.mark.parametrize("latency", [1, 2, 40])
def test_latency_and_rate_are_exact(open_device, latency):
    device = open_device(latency=latency)
    short, long = (copy(device, 0, 0x800, beats) for beats in (1, 16))
    assert long - short == 2 * 15, "one beat per cycle each way"
    assert short == copy(open_device(latency=latency + 1), 0, 0x800, 1) - 2


def test_stalls_change_the_time_and_not_the_data(open_device, rng):
    data = pattern(rng, 256)
    cycles = set()
    for seed in (1, 2, 1):
        device = open_device(stall=0.4, seed=seed)
        device.write_memory(BASE, data)
        cycles.add(copy(device, 0, 0x1000, 256, mischief=1 << 1))
        assert device.read_memory(BASE + 0x1000, len(data)) == data
        assert device.violations == 0
    assert len(cycles) == 2, "equal seeds give equal cycles"


def test_data_may_come_before_its_address(open_device, rng):
    device = open_device()
    data = pattern(rng, 8)
    device.write_memory(BASE, data)
    copy(device, 0, 0x1000, 8, mischief=1 << 4)
    assert device.read_memory(BASE + 0x1000, len(data)) == data


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ((0, 0x1000, 4, 1 << 0), "WLAST is not on the last beat"),
        ((0, 0x1000, 4, 1 << 2), "AR size is not the full width"),
        ((0xFF8, 0x2000, 2, 0), "AR burst crosses a multiple of 4096 bytes"),
        ((0, 0x1FF0, 3, 0), "AW burst crosses a multiple of 4096 bytes"),
        ((0x10000, 0, 1, 0), "AR burst leaves the memory"),
        ((0, 0x10000, 1, 0), "AW burst leaves the memory"),
    ],
)
def test_broken_rules_of_the_bus_are_reported(open_device, case, text):
    source, target, beats, mischief = case
    device = open_device()
    with pytest.raises(DeviceError, match=f"must obey AXI, but broke . rules: {text}"):
        copy(device, source, target, beats, mischief=mischief)


def test_address_that_changes_while_it_waits_is_reported(open_device):
    device = open_device(stall=0.9, seed=5)
    with pytest.raises(DeviceError, match="AW changed before READY"):
        copy(device, 0, 0x1000, 1, mischief=1 << 3)


@pytest.mark.parametrize(("write", "field"), [(False, 0), (True, 2)])
def test_injected_errors_are_answered(open_device, write, field):
    device = open_device()
    device.inject_error(BASE + (0x1010 if write else 0x10), 1, 2, write=write)
    copy(device, 0, 0x1000, 4)
    assert device.read_register(RESPONSES) >> field & 3 == 2
    device.clear_errors()
    copy(device, 0, 0x1000, 4)
    assert device.read_register(RESPONSES) >> field & 3 == 0


def test_timeline_has_each_change_since_the_doorbell(open_device):
    device = open_device(latency=10)
    for run in (1, 2):
        cycles = copy(device, 0, 0x1000, 4)
        events = device.timeline()
        counts = [[count for engine, count, _ in events if engine == n] for n in range(4)]
        # The counts of the run before are cleared by its doorbell.
        stale = [0] if run == 2 else []
        assert counts == [[*stale, 1, 2, 3, 4], [], [run], [*stale, 1, 2, 3, 4]]
        times = [cycle for _, _, cycle in events]
        assert times == sorted(times)
        assert times[0] == 1
        assert times[-1] < cycles


def test_devices_may_be_closed_in_any_order(open_device, rng):
    data = pattern(rng, 4)
    first, second = open_device(), open_device()
    for device in (first, second):
        device.write_memory(BASE, data)
        copy(device, 0, 0x1000, 4)
    second.close()
    third = open_device()
    copy(first, 0, 0x2000, 4)
    first.close()
    copy(third, 0, 0x1000, 4)


def test_core_that_never_finishes_times_out(open_device):
    device = open_device()
    with pytest.raises(DeviceTimeout, match=r"within 0\.01 s, and did not in \d+ simulated"):
        device.wait_interrupt(0.01)


@pytest.mark.parametrize(("addr", "size"), [(-1, 1), (0, (1 << 16) + 1), (1 << 16, 1)])
def test_memory_outside_is_refused(open_device, addr, size):
    device = open_device()
    with pytest.raises(DeviceError, match="Memory access must be inside 0x100000000 to"):
        device.read_memory(BASE + addr, size)
    with pytest.raises(DeviceError, match="Memory access must be inside"):
        device.write_memory(BASE + addr, bytes(size))


@pytest.mark.parametrize(("options", "text"), [({"stall": 1.0}, "stall"), ({"latency": 0}, "Lat")])
def test_options_out_of_range_are_refused(tiny, options, text):
    with pytest.raises(ValueError, match=text):
        RtlDevice(tiny, verilog=COPIER, **options)


def test_counters_of_other_designs_do_not_begin_late(open_device):
    with pytest.raises(DeviceError, match="only in a design that was changed for that"):
        open_device().count_from(1 << 20)


def test_simulators_that_count_leave_what_they_reached(open_device, tmp_path, monkeypatch):
    monkeypatch.setenv(build.COVERAGE_VARIABLE, str(tmp_path))
    device = open_device()
    copy(device, 0, 0x800, 4)
    device.close()
    (path,) = tmp_path.glob("*.dat")
    ports = {"systolith": {_AWADDR}}
    found = {str(p): n for p, n in coverage_data.points(coverage_data.tally(path), ports).items()}
    rose = {n for n in range(64) if found[f"port toggle TOP.pins.systolith {_AWADDR}[{n}]:0->1"]}
    assert rose == {11, 32}, "of the target's address"
    assert {text.partition(" ")[0] for text in found} == {"line", "branch", "port"}


def test_waveforms_are_written_on_request(open_device, tmp_path):
    path = tmp_path / "copy.fst"
    device = open_device(waves=path)
    copy(device, 0, 0x1000, 4)
    device.close()
    assert path.stat().st_size > 500


def test_library_is_built_once(tiny, monkeypatch):
    first = build.build_library(COPIER, axi_bytes=BEAT)
    monkeypatch.setattr(build, "_compile", None)
    assert build.build_library(COPIER, axi_bytes=BEAT) == first


def test_processes_that_want_the_same_wait_for_one_of_them(tmp_path):
    path, made = tmp_path / "deep" / "thing.so", []

    def make(target):
        made.append(target)
        time.sleep(0.2)
        target.write_text("content")

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda _: build.cached(path, make), range(4)))
    assert results == 4 * [path]
    assert len(made) == 1
    assert path.read_text() == "content"


def test_verilog_that_does_not_compile_is_reported_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ToolchainError, match=r'"verilator" failed to build the simulator:\n.*%Err'):
        build.build_library("module systolith(input ap_clk; endmodule", axi_bytes=BEAT)
    with pytest.raises(ToolchainError, match=r'module "systolith" with the input "ap_clk"'):
        build.build_library("module systolith(input a); endmodule", axi_bytes=BEAT)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    # Locks stay: one that is removed while somebody waits for it locks nothing.
    assert {path.suffix for path in left} == {".lock"}


def test_the_shell_registers_every_input_but_the_clock():
    text = "module m(a, b, ap_clk);\n  input ap_clk;\n  input [3:0] a;\n  output b;\nendmodule\n"
    shell = pins.shell(text, "m")
    assert "a_q <= a;" in shell
    assert "m m(.ap_clk(ap_clk), .a(a_q), .b(b));" in shell
    assert "ap_clk_q" not in shell


def test_verilog_without_progress_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = COPIER.replace("progress_load", "elsewhere")
    with pytest.raises(ToolchainError, match=r"must have wires progress_load$"):
        build.build_library(text, axi_bytes=BEAT)
