"""`systolith verilog`: the generated hardware, its C header, file list and configuration."""

import argparse
from pathlib import Path
from typing import Any

from systolith.arch.errors import InputError, ToolchainError

from . import options
from .progress import spinner


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("verilog", help="generate the hardware", description=__doc__)
    options.add_config(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER",
        help="folder to write to; made if need be",
    )  # fmt: skip
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Generate everything, write it, and print the names of the files."""
    config = options.config_of(arguments)
    folder: Path = arguments.output
    if folder.exists() and not folder.is_dir():
        raise InputError(f'Output "{folder}" must be a folder')
    try:
        from systolith.gateware import verilog
    except ImportError as error:
        raise ToolchainError(
            f"Generating hardware needs a package that cannot be imported ({error}); "
            f'run "make setup"'
        ) from error
    with spinner(f"generating {config.name}"):
        written = verilog.write_package(config, folder)
    for path in written:
        print(path)
    return 0
