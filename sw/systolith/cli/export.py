"""`systolith export`: a compiled program as a C header, for the driver without an operating system."""

import argparse
import re
from pathlib import Path
from typing import Any

from systolith.arch.program import Program

from . import files

HEADER_SUFFIX = ".h"


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "export", help="write a program as a C header", description=__doc__
    )
    parser.add_argument("program", type=Path, metavar="PROGRAM", help="compiled program")
    parser.add_argument(
        "--name", metavar="NAME",
        help="name of the program in C (default: that of the file, in letters C allows)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE",
        help=f"header to write (default: PROGRAM with suffix {HEADER_SUFFIX})",
    )  # fmt: skip
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Write the header, and print its name."""
    from systolith.package import export

    output: Path = arguments.output or arguments.program.with_suffix(HEADER_SUFFIX)
    files.check_writable(output)
    name = arguments.name or re.sub(r"\W", "_", arguments.program.stem, flags=re.ASCII)
    header = export.c_header(Program.load(arguments.program), name)
    files.write_bytes(output, header.encode())
    print(output)
    return 0
