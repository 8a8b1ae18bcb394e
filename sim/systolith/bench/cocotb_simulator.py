"""Builds a simulator of a block under cocotb, by Verilator or Icarus, and carries out runs in it."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from systolith.arch.errors import ToolchainError
from systolith.bench import toolchain
from systolith.bench.cocotb_blocks import TOP_NAME, block_verilog
from systolith.bench.cocotb_points import Point
from systolith.boards.tools import run_tool

VERILATOR, ICARUS = "verilator", "icarus"

_PORT = re.compile(r"^  (input|output) (?:\[[^]]*\] )?(\S+?) ?;$", re.MULTILINE)
_TIMESCALE = ("1ns", "1ps")
_LOG_CHARACTERS = 4000
# Values that registers and memories have before reset, where the technology gives them any.
_INITIAL_VALUE = re.compile(r"^(\s*reg (?:\[[^]]*\] )?\S+)\s+= [^;]*;", re.MULTILINE)
_ZEROS = re.compile(r"  initial begin\n(?:    \S+\[\d+\] = \d+'h0+;\n)*  end\n$")
_INITIAL_BLOCK = re.compile(r"^  initial begin\n.*?^  end\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Parameters
    ----------
    counts : dict of str to int
        What was counted; empty after a failure.
    failure : str or None
        What went wrong.
    """

    counts: dict[str, int]
    failure: str | None


def pins(verilog: str) -> dict[str, str]:
    """Return the direction of each pin of the top module, by name."""
    begin = verilog.index(f"module {TOP_NAME}(")
    text = verilog[begin : verilog.index("endmodule", begin)]
    return {name: direction for direction, name in _PORT.findall(text)}


def without_initial_values(verilog: str) -> str:
    """Return Verilog in which registers and memories are unknown until they are written.

    Memories with anything but zeros keep their contents: they are tables.
    """
    # The blank ends a name that is escaped.
    verilog = _INITIAL_VALUE.sub(r"\1 ;", verilog)
    return _INITIAL_BLOCK.sub(lambda block: "" if _ZEROS.match(block[0]) else block[0], verilog)


def as_assignments(verilog: str) -> str:
    """Return Verilog without processes but those of registers and memories.

    Icarus 11 never evaluates `always @*` at time zero if no input changes, and two processes that each
    make some bits of one signal wake each other for ever: it is sensitive to whole signals.

    Raises
    ------
    ToolchainError
        Yosys is missing, or refuses the text.
    """
    script = "read_verilog in.v; proc -norom; opt_clean; write_verilog -noattr out.v"
    with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
        folder = Path(scratch)
        (folder / "in.v").write_text(verilog)
        run_tool("yosys", ["-q", "-p", script], folder=folder)
        return (folder / "out.v").read_text()


class BlockSimulator:
    """A simulator of one block at one width, in a folder named after its content.

    Parameters
    ----------
    block : str
        Block.
    data_bits : int
        Width.
    folder : Path
        Where simulators are kept.
    simulator : str
        :data:`VERILATOR` or :data:`ICARUS`.
    verilog : str, optional
        What to simulate instead of the generated Verilog.

    Raises
    ------
    ToolchainError
        The simulator cannot be built here.
    """

    def __init__(
        self,
        block: str,
        data_bits: int,
        folder: Path,
        *,
        simulator: str = VERILATOR,
        verilog: str | None = None,
    ) -> None:
        text = verilog or block_verilog(block, data_bits)
        if simulator == ICARUS:
            if shutil.which("iverilog") is None:
                raise ToolchainError(
                    "The second simulator needs iverilog, which must be on the path; "
                    'run "sudo apt-get install iverilog"'
                )
            text = as_assignments(text)
        self.pins = pins(text)
        self.key = hashlib.sha256(f"{simulator}\n{text}".encode()).hexdigest()[:16]
        self._simulator = simulator
        self._folder = folder / f"{block}_{data_bits}_{simulator}_{self.key}"
        self._folder.mkdir(parents=True, exist_ok=True)
        source = self._folder / "block.v"
        _write_once(source, text)
        with _environment():
            self._runner = self._build(source)

    def outputs(self, *, payloads_while_valid: bool = False) -> dict[str, str]:
        """Return the output pins, and when they must be known: see :meth:`run`.

        Pins of the chip's inside, which only a block alone has, carry a payload while their VALID or
        strobe is high; all others are always known, or with `payloads_while_valid`, those too only then.
        """
        names = [name for name, direction in self.pins.items() if direction == "output"]
        gates = [n for n in names if n.endswith(("valid", "_stb"))]
        result = {}
        for name in names:
            bus = name.startswith(("s_axi_", "m_axi_")) and not payloads_while_valid
            # A gate's name begins with that of its channel: `o_valid` of `o_word`.
            stems = {gate: gate.removesuffix("valid").removesuffix("stb") for gate in gates}
            gate = next((g for g, stem in stems.items() if name.startswith(stem)), "")
            result[name] = "" if bus or name in gates or name.endswith("ready") else gate
        if payloads_while_valid:
            # Lanes without strobes may hold anything; the checker looks at the others.
            result.pop("m_axi_gmem_wdata", None)
        return result

    def _build(self, source: Path) -> Any:
        from cocotb_tools.runner import get_runner

        runner = get_runner(self._simulator)
        sources, options = [source], ["-g2012"]
        if self._simulator == VERILATOR:
            # Only the pins are read and written; everything else may be optimized.
            control = self._folder / "pins.vlt"
            names = [f'public_flat_rw -module "{TOP_NAME}" -var "{name}"' for name in self.pins]
            _write_once(control, "\n".join(["`verilator_config", *names, ""]))
            sources = [control, source]
            options = [
                *toolchain.VERILATOR_FLAGS, "--no-public-flat-rw", "-Wno-fatal", "-Wno-lint",
                "-Wno-style",
            ]  # fmt: skip
        runner.build(
            sources=sources,
            hdl_toplevel=TOP_NAME,
            build_dir=self._folder / "obj",
            build_args=options,
            timescale=_TIMESCALE,
            log_file=self._folder / "build.log",
        )
        return runner

    def run(
        self,
        points: Sequence[Point],
        folder: Path,
        *,
        outputs: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Outcome]:
        """Carry out runs in one process, and return their outcomes by name.

        Parameters
        ----------
        points : sequence of Point
            Runs of this block and width.
        folder : Path
            Where the log and the records of the runs go.
        outputs : mapping of str to str
            Pins that may not be unknown after reset, and the pin that says when, or "" for always.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for point in points:
            (folder / f"{point.name}.json").unlink(missing_ok=True)
        listed = folder / "points.json"
        listed.write_text(f"[{','.join(point.to_json() for point in points)}]")
        checked = folder / "outputs.json"
        checked.write_text(json.dumps(dict(outputs)))
        log = folder / "simulation.log"
        results = folder / "results.xml"
        # Under pytest, the runner raises this after a failure; what failed stands in the results.
        with _environment(), contextlib.suppress(SystemExit):
            self._runner.test(
                test_module="systolith.bench.cocotb_run",
                hdl_toplevel=TOP_NAME,
                hdl_toplevel_lang="verilog",
                build_dir=self._folder / "obj",
                test_dir=folder,
                timescale=_TIMESCALE if self._simulator == ICARUS else None,
                results_xml=str(results),
                extra_env={
                    "SYSTOLITH_POINTS": str(listed),
                    "SYSTOLITH_RECORDS": str(folder),
                    "SYSTOLITH_OUTPUTS": str(checked),
                },
                log_file=log,
            )
        failures = _failures(results)
        return {p.name: _outcome(p, folder, failures, log) for p in points}


def _write_once(path: Path, text: str) -> None:
    """Write a file that does not exist yet; one that does is not touched, so that what is built stays."""
    if not path.exists():
        path.write_text(text)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Let cocotb's runner find the simulator and its settings."""
    before = dict(os.environ)
    os.environ.update(toolchain.environment())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _failures(results: Path) -> dict[str, str]:
    """Return the message of each test that failed, by the name of the run."""
    found = {}
    for case in ElementTree.parse(results).iter("testcase"):
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                name = str(case.get("name")).partition("=")[2]
                found[name] = f"{child.get('message')}\n{child.text}"
    return found


def _outcome(point: Point, folder: Path, failures: dict[str, str], log: Path) -> Outcome:
    record = folder / f"{point.name}.json"
    failure = failures.get(point.name)
    if failure is None and not record.exists():
        failure = f"it did not end; the log ends with {log.read_text()[-_LOG_CHARACTERS:]}"
    if failure is not None:
        return Outcome({}, failure)
    return Outcome(json.loads(record.read_text()), None)
