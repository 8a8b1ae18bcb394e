"""From a configuration to a library that simulates a whole board, kept in the cache of the RTL."""

import functools
import os
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import ToolchainError
from systolith.bench import toolchain
from systolith.bench.rtl import build as rtl_build

PREFIX = "Vboard"
TOP = "board"
HARNESS = "harness.cpp"

_FLAGS = ("-std=c++20", "-O2", "-fPIC", "-shared", "-fno-strict-aliasing")


def verilog_of(config: AcceleratorConfig, *, clock_hz: int, baud: int, memory_bytes: int) -> str:
    """Return the Verilog of :class:`systolith.boards.top.BoardTop`, generated once per source.

    Raises
    ------
    ToolchainError
        Amaranth cannot be imported.
    """
    packages = ("systolith.arch", "systolith.gateware", "systolith.boards")
    sizes = (f"{config.digest:016x}", *config.implementation, clock_hz, baud, memory_bytes)
    key = rtl_build.digest([rtl_build.source_key(packages), *(str(size) for size in sizes)])

    def generate(target: Path) -> None:
        try:
            from systolith.boards import top
        except ImportError as error:
            raise ToolchainError(
                f'Generating hardware needs the package "amaranth", which cannot be imported '
                f'({error}); run "make setup"'
            ) from error
        text = top.generate(
            config, clock_hz=clock_hz, baud=baud, memory_bytes=memory_bytes, name=TOP
        )
        target.write_text(text, encoding="utf-8")

    path = rtl_build.cache_folder() / "verilog" / f"board-{key}.v"
    return rtl_build.cached(path, generate).read_text(encoding="utf-8")


def build_library(verilog: str) -> Path:
    """Return the path of the library that simulates a Verilog text, built on first use.

    Raises
    ------
    ToolchainError
        A tool is missing, or fails; the message has the end of its log.
    """
    environment = toolchain.environment()
    source = (resources.files(__package__) / HARNESS).read_text(encoding="utf-8")
    key = rtl_build.digest(
        [
            verilog,
            source,
            *toolchain.VERILATOR_FLAGS,
            *_FLAGS,
            environment["MAKEFLAGS"],
            toolchain.verilator_version(),
            rtl_build.compiler_version(),
        ]
    )

    def build(target: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
            folder = Path(scratch)
            (folder / "board.v").write_text(verilog, encoding="utf-8")
            (folder / HARNESS).write_text(source, encoding="utf-8")
            _compile(folder, environment)
            shutil.copyfile(folder / "board.so", target)

    return rtl_build.cached(rtl_build.cache_folder() / "board" / f"{key}.so", build)


def _compile(folder: Path, environment: dict[str, str]) -> None:
    """Make `board.so` of the sources in a folder."""
    include = toolchain.verilator_root() / "include"
    run = functools.partial(rtl_build.run_tool, folder=folder, environment=environment)
    run(
        "verilator", "--cc", "--top-module", TOP, "--prefix", PREFIX, "--Mdir", "obj", "-Wno-lint",
        "-Wno-style", "-Wno-fatal", *toolchain.VERILATOR_FLAGS, "-CFLAGS", "-fPIC", "board.v",
    )  # fmt: skip
    libraries = (f"lib{PREFIX}.a", "libverilated.a")
    run("make", "-C", "obj", "-f", f"{PREFIX}.mk", f"-j{os.cpu_count() or 1}", *libraries)
    run(
        "c++", *_FLAGS, "-Iobj", f"-I{include}", f"-I{include / 'vltstd'}", HARNESS, "-o",
        "board.so", *(f"obj/{library}" for library in libraries), "-lpthread",
    )  # fmt: skip
