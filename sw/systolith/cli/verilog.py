"""`systolith verilog`: the generated hardware, its C header, and a list of files."""

import argparse
from pathlib import Path
from typing import Any

from systolith.arch.docgen import c_header
from systolith.arch.errors import InputError
from systolith.bench.rtl import TOP, verilog_of

from . import files, options
from .progress import spinner

HEADER = f"{TOP}.h"
FILE_LIST = f"{TOP}.f"


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("verilog", help="generate the hardware", description=__doc__)
    options.add_config(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER",
        help=f"folder for {TOP}.v, {HEADER}, {FILE_LIST} and {TOP}.toml; made if need be",
    )  # fmt: skip
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Generate everything, then write it."""
    config = options.config_of(arguments)
    folder: Path = arguments.output
    if folder.exists() and not folder.is_dir():
        raise InputError(f'Output "{folder}" must be a folder')
    with spinner(f"generating {config.name}"):
        contents = {
            f"{TOP}.v": verilog_of(config),
            HEADER: c_header(),
            FILE_LIST: f"{TOP}.v\n",
            f"{TOP}.toml": config.to_toml(),
        }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        files.write_bytes(folder / name, text.encode())
        print(folder / name)
    return 0
