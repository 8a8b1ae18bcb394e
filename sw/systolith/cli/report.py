"""`systolith report`: the summary of a program, or of a run's report."""

import argparse
import json
from pathlib import Path
from typing import Any

from systolith.arch.errors import InputError
from systolith.arch.program import Program

from . import options, summary


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("report", help="print a summary", description=__doc__)
    parser.add_argument("file", type=Path, metavar="PROGRAM|report.json", help="what to summarize")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Print the summary."""
    path: Path = arguments.file
    if options.is_program(path):
        print(summary.text(summary.program_report(Program.load(path))))
        return 0
    try:
        print(summary.text(json.loads(path.read_text(encoding="utf-8"))))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f'File "{path}" must be a program or a report of "systolith run", and is neither'
        ) from error
    return 0
