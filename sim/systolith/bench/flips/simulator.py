"""One block as a simulator whose bits can be flipped; built once, kept in the cache by content."""

import ctypes
import functools
import re
import shutil
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.bench import toolchain
from systolith.bench.rtl import build
from systolith.bench.rtl.library import load_library

from .instrument import instrument

TOP = "block"
"""Name of the block's module."""

FLIP = np.dtype([("cycle", "<u4"), ("which", "<u4"), ("place", "<u4"), ("row", "<u4")])
"""What is flipped, and in which cycle."""

_SOURCE = "flips.cpp"
_HARNESS_FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared")
_WORD_BITS = 32
_FEWEST_WORDS = 3
"""Ports of more than 64 bits have one type in C++."""

_PORT = re.compile(r"^  (input|output) (?:\[(\d+):0\] )?(\\\S+ |\w+);$")
_POINTER, _U32, _U64 = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64
_SIGNATURES = {
    "flips_clean": (_U32, (_POINTER, _U64, _POINTER)),
    "flips_run": (None, (_POINTER, _U64, _POINTER, _POINTER, _POINTER, _U64, _POINTER)),
}

Bits = NDArray[np.uint8]
Words = NDArray[np.uint32]


class Pins:
    """Ports of one direction, as columns of a matrix of bits with a row per cycle.

    Parameters
    ----------
    widths : mapping of str to int
        Ports in order.
    """

    def __init__(self, widths: dict[str, int]) -> None:
        self._place: dict[str, tuple[int, int]] = {}
        at = 0
        for name, width in widths.items():
            self._place[name] = (at, at + width)
            at += width
        self.words = max(_FEWEST_WORDS, -(-at // _WORD_BITS))

    def new(self, cycles: int) -> Bits:
        """Return zeros for some cycles."""
        return np.zeros((cycles, self.words * _WORD_BITS), np.uint8)

    def part(self, matrix: Bits, name: str) -> Bits:
        """Return the columns of a port, as a view, lowest bit first."""
        low, high = self._place[name]
        return matrix[:, low:high]

    def names(self) -> list[str]:
        """Return the ports in order."""
        return list(self._place)


def pack(matrix: Bits) -> Words:
    """Return rows of bits as rows of words."""
    packed = np.packbits(matrix, axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u4")


def put(columns: Bits, cycle: int, value: int) -> None:
    """Set the bits of a port in one cycle."""
    for bit in range(columns.shape[1]):
        columns[cycle, bit] = value >> bit & 1


class BlockSimulator:
    """A block that runs on given inputs, once as it is and then with one bit flipped.

    Parameters
    ----------
    verilog : str
        Block, its top named :data:`TOP`.
    alarms : sequence of str
        Outputs that say that a soft error was noticed; the others are results.

    Attributes
    ----------
    sites : list of Site
        What can be flipped.
    key : str
        Digest of the block's Verilog.
    inputs, outputs : Pins
        Its ports, without clock, reset and alarms.
    """

    def __init__(self, verilog: str, alarms: Sequence[str]) -> None:
        text, self.sites = instrument(verilog)
        self.key = build.digest([verilog])
        ports = _ports(verilog)
        clocks = {name for name in ("clk", "rst") if ("input", name) in ports}
        self.alarms = tuple(alarms)
        self.inputs = Pins(
            {n: w for (way, n), w in ports.items() if way == "input" and n not in clocks}
        )
        self.outputs = Pins(
            {n: w for (way, n), w in ports.items() if way == "output" and n not in alarms}
        )
        shell = _shell(ports, clocks, self.inputs, self.outputs, self.alarms)
        defines = (
            f"-DIN_WORDS={self.inputs.words}",
            f"-DOUT_WORDS={self.outputs.words}",
            f"-DALARMS={len(self.alarms)}",
        )
        self._library = load_library(_build(f"{text}\n{shell}", defines), _SIGNATURES)
        self._result = np.dtype([("wrong", "<u4"), ("alarms", "<u4", (len(self.alarms),))])

    def clean(self, inputs: Bits) -> tuple[Words, int]:
        """Return the outputs of a run without flip, in words, and the alarms that it raised."""
        words = pack(inputs)
        outputs = np.zeros((len(inputs), self.outputs.words), np.uint32)
        alarms = self._library.flips_clean(words.ctypes.data, len(inputs), outputs.ctypes.data)
        return outputs, int(alarms)

    def run(
        self, inputs: Bits, clean: Words, mask: Bits, flips: NDArray[np.void]
    ) -> NDArray[np.void]:
        """Run once for each flip.

        Parameters
        ----------
        inputs : uint8[cycles, bits]
            Inputs in every cycle; the first one is the reset.
        clean : uint32[cycles, words]
            Outputs without flip.
        mask : uint8[cycles, bits]
            Which of them count.
        flips : array of FLIP
            One flip per run.

        Returns
        -------
        array of (wrong, alarms)
            First cycle, plus one, in which an output that counts was wrong, and of each alarm.
        """
        words, masks = pack(inputs), pack(mask)
        flips = np.ascontiguousarray(flips)
        results = np.zeros(len(flips), self._result)
        self._library.flips_run(
            words.ctypes.data, len(inputs), clean.ctypes.data, masks.ctypes.data,
            flips.ctypes.data, len(flips), results.ctypes.data,
        )  # fmt: skip
        return results


def _ports(verilog: str) -> dict[tuple[str, str], int]:
    """Return direction and name of the ports of the top, with their widths."""
    body = re.search(rf"^module {TOP}\(.*?^endmodule", verilog, re.MULTILINE | re.DOTALL)
    assert body is not None
    found = filter(None, map(_PORT.match, body[0].splitlines()))
    return {(port[1], port[3].strip().removeprefix("\\")): int(port[2] or 0) + 1 for port in found}


def _shell(
    ports: dict[tuple[str, str], int],
    clocks: set[str],
    inputs: Pins,
    outputs: Pins,
    alarms: Sequence[str],
) -> str:
    """Return the Verilog of a module with all inputs and all outputs in one port each."""
    lines = [
        "module bench(input clk, input rst, input [31:0] which, place, row,",
        f"  input [{inputs.words * _WORD_BITS - 1}:0] in,",
        f"  output [{outputs.words * _WORD_BITS - 1}:0] out, output [31:0] alarm);",
        "  always @* begin flip::which = which; flip::place = place; flip::row = row; end",
    ]
    links = [f".{name}({name})" for name in sorted(clocks)]
    places = {"input": ("in", 0), "output": ("out", 0)}
    for (way, name), width in ports.items():
        if name in clocks:
            continue
        if name in alarms:
            place = alarms.index(name)
            lines += [
                f"  wire [{width - 1}:0] alarm_{place};",
                f"  assign alarm[{place}] = |alarm_{place};",
            ]
            links.append(f".\\{name} (alarm_{place})")
            continue
        vector, at = places[way]
        links.append(f".\\{name} ({vector}[{at + width - 1}:{at}])")
        places[way] = (vector, at + width)
    lines += [f"  {TOP} dut({', '.join(links)});", "endmodule"]
    return "\n".join(lines)


def _build(verilog: str, defines: Sequence[str]) -> Path:
    """Return the library of a Verilog text with the top `bench`."""
    source = (resources.files(__package__) / _SOURCE).read_text(encoding="utf-8")
    environment = toolchain.environment()
    flags = toolchain.VERILATOR_FLAGS
    versions = (toolchain.verilator_version(), build.compiler_version())
    key = build.digest([verilog, source, *defines, *flags, *_HARNESS_FLAGS, *versions])

    def make(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
            folder = Path(scratch)
            (folder / "bench.sv").write_text(verilog, encoding="utf-8")
            (folder / _SOURCE).write_text(source, encoding="utf-8")
            include = toolchain.verilator_root() / "include"
            run = functools.partial(build.run_tool, folder=folder, environment=environment)
            run("verilator", "--cc", "--top-module", "bench", "--Mdir", "obj", "-Wno-lint",
                "-Wno-style", "-Wno-fatal", *flags, "-CFLAGS", "-fPIC", "bench.sv")  # fmt: skip
            libraries = ("libVbench.a", "libverilated.a")
            run("make", "-C", "obj", "-f", "Vbench.mk", *libraries)
            run("c++", *_HARNESS_FLAGS, *defines, "-Iobj", f"-I{include}",
                f"-I{include / 'vltstd'}", _SOURCE, "-o", "block.so",
                *(f"obj/{library}" for library in libraries), "-lpthread")  # fmt: skip
            shutil.copyfile(folder / "block.so", target)

    return build.cached(build.cache_folder() / "flips" / f"{key}.so", make)
