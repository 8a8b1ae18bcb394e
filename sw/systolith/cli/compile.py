"""`systolith compile`: from a model file to a program file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from systolith.arch.errors import InputError
from systolith.arch.isa import disassemble
from systolith.arch.program import AcceleratorSegment, Program

from . import files, options, summary
from .progress import spinner

PROGRAM_SUFFIX = ".systolith"


class ListOperators(argparse.Action):
    """Print the table of operators, as `--help` prints its text: no model is needed."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **settings)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        """Print and exit."""
        from systolith.compiler import rules

        print(rules.document(), end="")
        parser.exit()


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "compile", help="compile a model to a program", description=__doc__
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="int8 TFLite model")
    parser.add_argument(
        "--list-ops", action=ListOperators, help="print the operators with their rules and exit"
    )
    options.add_config(parser)
    options.add_reference(parser)
    options.add_batch(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE",
        help=f"program to write (default: MODEL with suffix {PROGRAM_SUFFIX})",
    )  # fmt: skip
    parser.add_argument(
        "--keep-tensors", action="store_true", help="make every quantized tensor readable"
    )
    parser.add_argument(
        "--listing", type=Path, metavar="FILE", help="write the instructions as text"
    )
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Compile, write the program, and print its summary."""
    output = arguments.output or arguments.model.with_suffix(PROGRAM_SUFFIX)
    files.check_writable(output, arguments.listing)
    if options.is_program(arguments.model):
        raise InputError(f'File "{arguments.model}" is a program already; give the model')
    with spinner(f"compiling {arguments.model.name}"):
        program = options.load_or_compile(
            arguments.model, arguments, keep_tensors=arguments.keep_tensors
        )
        listing = _listing(program) if arguments.listing else None
    files.write_bytes(output, program.to_bytes())
    if listing is not None:
        files.write_bytes(arguments.listing, listing.encode())
    print(summary.text(summary.program_report(program)))
    return 0


def _listing(program: Program) -> str:
    parts = []
    for index, segment in enumerate(program.segments):
        if isinstance(segment, AcceleratorSegment):
            parts.append(f"segment {index}\n{disassemble(segment.code)}\n")
        else:
            parts.append(f"segment {index}\n    host  {segment.op} {dict(segment.attributes)}\n")
    return "\n".join(parts)
