"""The package in a simulator with unknown values, from power-on to the last byte of a program."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from systolith.api import compile_model
from systolith.arch import csr
from systolith.arch.presets import PRESETS
from systolith.arch.program import REGION_PERMISSIONS, Region
from systolith.driver.device import Device
from systolith.driver.runtime import run_sample
from systolith.golden.device import GoldenDevice

HERE = Path(__file__).parent
DIGITS = HERE.parents[1] / "examples" / "digits"
TINY = PRESETS["tiny-4x4"]
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
MEMORY_BYTES = 1 << 18
BASES = {Region.PROGRAM: 0, Region.CONSTANTS: 0x8000, Region.INPUT: 0x10000, Region.OUTPUT: 0x20000}
WATCHDOG_CYCLES = 1 << 20


def start_program(program):
    """Return the Verilog task that maps the regions and starts the first segment."""
    segment = program.segments[0]
    sizes = {
        Region.PROGRAM: len(segment.code),
        Region.CONSTANTS: len(program.constants),
        Region.INPUT: segment.input_bytes,
        Region.OUTPUT: segment.output_bytes,
    }
    writes = []
    for region, size in sizes.items():
        read, write = REGION_PERMISSIONS[region]
        flags = csr.pack("region0_flags", read=int(read), write=int(write))
        values = {"base_lo": BASES[region], "base_hi": 0, "size": size, "flags": flags}
        writes += [(f"region{int(region)}_{name}", value) for name, value in values.items()]
    writes += [
        ("program_offset", 0),
        ("program_count", segment.instruction_count),
        ("watchdog", WATCHDOG_CYCLES),
        ("irq_enable", csr.pack("irq_enable", done=1, fault=1)),
        ("control", csr.pack("control", start=1)),
    ]
    calls = [f"write_register(12'h{csr.BY_NAME[name].addr:x}, {value});" for name, value in writes]
    return "\n".join(["task start_program;", "begin", *calls, "end", "endtask", ""])


@pytest.mark.slow
@pytest.mark.cosim
def test_digits_from_unknown_registers_and_memories(tiny_package, tmp_path):
    if shutil.which("iverilog") is None:
        assert not IN_CI, "iverilog must be installed"
        pytest.skip("there is no iverilog")
    program = compile_model(DIGITS / "digits.tflite", TINY)
    image = np.load(DIGITS / "test_images.npz")["image"][0]
    device = Device(GoldenDevice(TINY))
    expected = run_sample(device, program, {"image": image}).tensors["dense"].tobytes()

    memory = bytearray(MEMORY_BYTES)
    for region, data in (
        (Region.PROGRAM, program.segments[0].code),
        (Region.CONSTANTS, program.constants),
        (Region.INPUT, image.tobytes()),
    ):
        memory[BASES[region] : BASES[region] + len(data)] = data
    (tmp_path / "mem.hex").write_text("\n".join(f"{byte:02x}" for byte in memory))
    (tmp_path / "program.vh").write_text(start_program(program))

    sources = [tiny_package / "rtl/systolith.v", tiny_package / "rtl/systolith_ram.v"]
    for command in (
        ["iverilog", "-g2005", "-o", "event_driven", *sources, HERE / "event_driven.v"],
        ["vvp", "event_driven"],
    ):
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False
        )
        assert result.returncode == 0, result.stderr
    identity, status, fault, *found = result.stdout.splitlines()[:13]
    assert identity == f"000 {csr.ID_VALUE:08x}"
    assert status == f"044 {csr.pack('status', done=1):08x}"
    assert fault == "050 00000000"
    assert bytes.fromhex("".join(found)) == expected
