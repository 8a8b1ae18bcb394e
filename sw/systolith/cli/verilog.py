"""`systolith verilog`: a package of the hardware that stands alone, and the files around it."""

import argparse
from pathlib import Path
from typing import Any

from systolith.arch.errors import InputError, ToolchainError
from systolith.package.constraint import DEFAULT_CLOCK_MHZ

from . import options
from .progress import spinner


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "verilog", help="generate a package of the hardware", description=__doc__
    )
    options.add_config(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER",
        help="folder to write to; made if need be",
    )  # fmt: skip
    parser.add_argument(
        "--clock-mhz", type=float, default=DEFAULT_CLOCK_MHZ, metavar="MHZ",
        help="clock that the constraints ask for (default: %(default)g)",
    )  # fmt: skip
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Generate everything, write it, and print the names of the files."""
    config = options.config_of(arguments)
    folder: Path = arguments.output
    if folder.exists() and not folder.is_dir():
        raise InputError(f'Output "{folder}" must be a folder')
    try:
        from systolith.package import writer
    except ImportError as error:
        raise ToolchainError(
            f"Generating hardware needs a package that cannot be imported ({error}); "
            f'run "make setup"'
        ) from error
    with spinner(f"generating {config.name}"):
        written = writer.write(config, folder, clock_mhz=arguments.clock_mhz)
    for path in written:
        print(path)
    return 0
