"""The C driver: strict C99, on the Verilated package, and its softmax against the definition."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from systolith.api import InferenceSession, Program, compile_model
from systolith.arch import csr, isa, softmax
from systolith.arch.errors import ProgramError
from systolith.arch.presets import PRESETS
from systolith.arch.program import HostSegment
from systolith.bench.rtl import build
from systolith.package import export

HERE = Path(__file__).parent
DIGITS = HERE.parents[1] / "examples" / "digits"
TINY = PRESETS["tiny-4x4"]
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-O1"]
CHECKED = ["-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"]
IMAGES = 8
RTL = ("rtl/systolith.v", "rtl/systolith_ram.v")


def gcc(*arguments):
    result = subprocess.run(
        ["gcc", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.fixture(scope="module")
def program():
    return compile_model(DIGITS / "digits.tflite", TINY)


@pytest.fixture(scope="module")
def images():
    return np.load(DIGITS / "test_images.npz")["image"][:IMAGES]


@pytest.fixture(scope="module")
def sources(tiny_package, tmp_path_factory, program):
    """Return the folder of the driver's sources, with the exported program among them."""
    folder = tmp_path_factory.mktemp("driver")
    for path in (tiny_package / "driver").rglob("*.*"):
        shutil.copy(path, folder)
    (folder / "digits.h").write_text(export.c_header(program, "digits"))
    return folder


def simulator(text):
    """Return the library that simulates a package's Verilog."""
    return build.build_library(text, axi_bytes=TINY.axi_bytes)


@pytest.fixture(scope="module")
def programs(sources, tiny_package):
    """Return the folder with the example and the driver's test, linked to the simulated package."""
    link_programs(sources, simulator("".join((tiny_package / path).read_text() for path in RTL)))
    return sources


def link_programs(folder, library):
    flags = [*STRICT, *CHECKED, f"-I{folder}", f"-I{HERE}"]
    # The example opens registers at an address; here they are the simulator's.
    simulated = ["-Dsystolith_mmio_port=simulated_port", "-include", HERE / "simulated_port.h"]
    gcc(*flags, "-c", folder / "systolith.c", "-o", folder / "systolith.o")
    gcc(*flags, "-c", HERE / "simulated_port.c", "-o", folder / "port.o")
    gcc(*flags, *simulated, "-c", folder / "digits.c", "-o", folder / "example.o")
    gcc(*flags, "-c", HERE / "drive.c", "-o", folder / "drive.o")
    for name in ("example", "drive"):
        objects = [folder / f"{part}.o" for part in (name, "systolith", "port")]
        gcc(*CHECKED, *objects, library, "-lstdc++", "-o", folder / name)


def run(*command):
    result = subprocess.run(
        list(map(str, command)),
        # The simulator is never destroyed.
        env={"ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


def test_driver_and_example_are_strict_c99(sources):
    for name in ("systolith.c", "digits.c"):
        gcc(*STRICT, f"-I{sources}", "-c", sources / name, "-o", sources / f"{name}.o")


def test_driver_needs_nothing_but_memory_functions(sources):
    if shutil.which("nm") is None:
        pytest.fail("nm must be installed with the C compiler")
    target = sources / "bare.o"
    gcc(
        *STRICT, "-fno-stack-protector", f"-I{sources}", "-c", sources / "systolith.c", "-o", target
    )
    listing = subprocess.run(
        ["nm", target], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    kinds = {line.split()[-1]: line.split()[-2] for line in listing.splitlines()}
    undefined = {name for name, kind in kinds.items() if kind == "U"}
    assert undefined - {"_GLOBAL_OFFSET_TABLE_"} <= {"memcpy", "memset"}
    # Writable data would be state that two accelerators share.
    assert not {name for name, kind in kinds.items() if kind in "BbDCG"}


def test_header_is_cplusplus_too(sources):
    (sources / "main.cpp").write_text('#include "digits.h"\nint main() { return 0; }\n')
    subprocess.run(
        ["g++", "-Wall", "-Werror", "-fsyntax-only", sources / "main.cpp"], check=True, timeout=60
    )


def test_every_fault_and_engine_has_a_text(sources):
    text = (sources / "systolith.c").read_text()
    for code in csr.Fault:
        assert f"case SYSTOLITH_FAULT_{code.name}: return" in text
    names = re.search(r"names\[\] = \{(.*?)\}", text).group(1)
    assert [name.strip('" ').upper() for name in names.split(",")] == [e.name for e in isa.Engine]


@pytest.mark.cosim
def test_example_runs_on_the_simulated_package(programs):
    lines = run(programs / "example")
    assert lines[-1] == "this is a 4"
    assert lines[:10] == [f"{digit}: {255 * (digit == 4)}/256" for digit in range(10)]


@pytest.mark.cosim
def test_driver_gives_the_bytes_of_the_golden_model(programs, program, images):
    with InferenceSession(program, "golden") as session:
        (expected,) = session.run(None, {"image": images})
    images.tofile(programs / "images.bin")
    lines = run(programs / "drive", "digits", programs / "images.bin", len(images))
    found = np.array([list(map(int, line.split())) for line in lines])
    np.testing.assert_array_equal(found, expected.reshape(len(images), -1))


ERRORS = """\
unaligned memory: 10 an argument is null or out of range
little memory: 9 the program needs more memory
no program: 8 no program is loaded, or none has run
open: 0 done
other digest: 7 the program was compiled for another configuration
other instruction set: 6 hardware and program differ in their instruction set
tensor out of range: 10 an argument is null or out of range
binding out of range: 10 an argument is null or out of range
load: 0 done
segment out of range: 10 an argument is null or out of range
region out of range: 10 an argument is null or out of range
no tensor: 10 an argument is null or out of range
busy: 1 a program is running
busy too: 1 a program is running
time-out: 3 the program did not end in time and was aborted
after time-out: aborted by software, engine sequencer
no halt: 2 the program was stopped by a fault
after no halt: access outside its region, engine sequencer, instruction 3, address offset 96
raw start: 0 done
raw wait: 2 the program was stopped by a fault
after raw wait: the region does not permit this access, engine sequencer, instruction 0, address offset 0
good run: 0 done
after good run: no fault
events left: 0
"""


@pytest.mark.cosim
def test_misuse_and_faults_have_a_status_and_the_next_run_is_good(programs):
    lines = run(programs / "drive", "errors")
    expected = ERRORS.splitlines()
    assert len(lines) == len(expected)
    for found, start in zip(lines, expected, strict=True):
        assert found.startswith(start)


def with_random_registers(verilog, rng):
    """Return a design whose registers begin with any value, instead of zero."""

    def declare(match):
        bits = int(match[2] or 0) + 1
        value = int.from_bytes(rng.bytes(bits // 8 + 1), "little") % (1 << bits)
        return f"{match[0][:-1]} = {bits}'h{value:x};"

    return re.sub(r"^  reg (\[(\d+):0\] )?\w+;", declare, verilog, flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.cosim
def test_nothing_relies_on_power_on_or_on_memory_collisions(
    tiny_package, sources, program, images, rng
):
    """Registers begin anyhow, words of memories too; reads that meet a write are nonsense."""
    design = with_random_registers((tiny_package / RTL[0]).read_text(), rng)
    assert len(re.findall(r"^  reg .* = \d+'h", design, re.MULTILINE)) > 1000
    link_programs(sources, simulator(design + (HERE / "hostile_ram.v").read_text()))
    test_driver_gives_the_bytes_of_the_golden_model(sources, program, images)
    test_misuse_and_faults_have_a_status_and_the_next_run_is_good(sources)


def test_softmax_is_the_one_of_the_contract(sources, rng):
    library = sources / "driver.so"
    gcc(*STRICT, "-shared", "-fPIC", f"-I{sources}", sources / "systolith.c", "-o", library)
    function = ctypes.CDLL(str(library)).systolith_softmax
    for beta, scale, depth in ((1.0, 0.17, 10), (0.5, 0.0003, 3), (1.0, 15.9, 40), (2.0, 1.1, 2)):
        attributes = softmax.prepare(beta, scale)
        rows = 500
        values = rng.integers(-128, 128, (rows, depth)).astype(np.int8)
        values[0] = 127
        output = np.empty_like(values)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (values, output)]
        function(*pointers, rows, depth, *attributes.values())
        np.testing.assert_array_equal(output, softmax.softmax(values, attributes))


def test_softmax_of_many_equal_values_is_the_one_of_the_contract(sources):
    """Sums of 512 and more, where the kernel's last shift is beyond what it declares."""
    library = sources / "driver2.so"
    gcc(*STRICT, "-shared", "-fPIC", f"-I{sources}", sources / "systolith.c", "-o", library)
    function = ctypes.CDLL(str(library)).systolith_softmax
    attributes = softmax.prepare(1.0, 0.1)
    for depth in (255, 511, 512, 1024, softmax.MAX_DEPTH):
        values = np.full((1, depth), 5, np.int8)
        values[0, ::3] = 2
        output = np.empty_like(values)
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (values, output)]
        function(*pointers, 1, depth, *attributes.values())
        np.testing.assert_array_equal(output, softmax.softmax(values, attributes))


@pytest.mark.parametrize("name", ["", "1st", "a b", "int", "é"])
def test_name_that_c_does_not_allow_is_refused(program, name):
    with pytest.raises(ProgramError, match="must be a C identifier, not"):
        export.c_header(program, name)


def test_operator_that_the_driver_has_not_is_refused(program):
    segments = tuple(
        HostSegment(op="rearrange", inputs=s.inputs, outputs=s.outputs, attributes={}, layer=0)
        if isinstance(s, HostSegment)
        else s
        for s in program.segments
    )
    fields = {name: getattr(program, name) for name in Program.__dataclass_fields__}
    other = Program(**fields | {"segments": segments})
    with pytest.raises(ProgramError, match='Operator "rearrange" of program .* must be one of sof'):
        export.c_header(other, "net")


def test_names_of_tensors_become_distinct_macros():
    macros = export._macros("net", ["a", "A", "a.bytes", "a_bytes", "tensors", "x/y:0"])
    assert len(set(macros.values())) == len(macros)
    assert macros["x/y:0"] == "NET_X_Y_0"
    sizes = {f"{macro}_BYTES" for macro in macros.values()}
    assert not sizes & set(macros.values())
    assert "NET_TENSORS" not in macros.values()
