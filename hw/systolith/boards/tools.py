"""The open FPGA tools: where they are, and how they are run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from systolith.arch.errors import ToolchainError

INSTALL = "pip install 'systolith[boards]'"
"""The command that installs all of them."""

_VERSION = re.compile(r"Yosys [\d.]+|nextpnr-\d[\d.]*")

_LOG_LINES = 3
"""Last lines of a tool's output that an error quotes."""


def find_tool(name):
    """Return the path of a tool.

    An environment variable named like the tool in capitals (`NEXTPNR_ECP5`) says where it is; else
    it is looked for beside the Python interpreter and in `PATH`, as `yowasp-<name>`, then as
    `<name>`.

    Raises
    ------
    ToolchainError
        It is nowhere.
    """
    chosen = os.environ.get(name.upper().replace("-", "_"))
    candidates = [chosen] if chosen else [f"yowasp-{name}", name]
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    for candidate in candidates:
        if path := shutil.which(candidate, path=search):
            return path
    raise ToolchainError(
        f'Tool "{name}" must be installed, but none of {", ".join(candidates)} was found; '
        f'install it with "{INSTALL}"'
    )


def run_tool(name, arguments, *, folder, seconds=None, remedy=""):
    """Run a tool in a folder, for so many seconds at most if it is said.

    `remedy` tells what to do if it takes longer.

    Raises
    ------
    ToolchainError
        It is missing, failed or took too long; the end of what it said is quoted.
    """
    command = [find_tool(name), *map(str, arguments)]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        message = f'Tool "{name}" must end within {seconds:g} s, and did not'
        raise ToolchainError(f"{message}; {remedy}" if remedy else message) from error
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).strip().splitlines()[-_LOG_LINES:])
        raise ToolchainError(f'Tool "{name}" must succeed in "{folder}", but failed with: {said}')
    return done.stdout


def version_of(name):
    """Return name and version of a tool, without what it was built with."""
    flag = "--version" if name != "yosys" else "-V"
    done = subprocess.run([find_tool(name), flag], capture_output=True, text=True, check=False)
    found = _VERSION.search(done.stdout + done.stderr)
    return found[0] if found else f"{name} of unknown version"
