"""`systolith doctor`: what is missing on this machine, and which command installs it."""

import argparse
from typing import Any

from systolith.bench import toolchain


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("doctor", help="look for missing tools", description=__doc__)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """List every requirement; exit code 1 if a needed one is missing."""
    found = toolchain.requirements()
    for item in found:
        state = item.found or ("absent" if item.optional else "MISSING")
        print(f"{item.name:<22} {state:<16} {item.purpose}")
    absent = [item for item in found if item.found is None]
    if not absent:
        print("\nEverything is here")
    for item in absent:
        need = "would help" if item.optional else "is needed"
        print(f'\n{item.name} {need} for {item.purpose}: run "{item.remedy}"')
    return 0 if all(item.ok for item in found) else 1
