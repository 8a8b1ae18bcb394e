"""The command `systolith`: thin subcommands over `systolith.api`.

Exit codes: 0 done, 1 the user's error, 2 usage, 3 results differ from those expected, 4 the device
faulted or did not end.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata

from systolith.arch.errors import DeviceError, SystolithError

from . import bench, boards, compile, doctor, export, report, run, verilog

EXIT_USER = 1
EXIT_DEVICE = 4
EXIT_INTERRUPTED = 130

_COMMANDS = (compile, run, bench, verilog, export, boards, report, doctor)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="systolith",
        description="INT8 neural-network accelerators: compile, run, generate, report.",
        epilog="Exit codes: 0 done, 1 your error, 2 usage, 3 results differ, 4 device fault.",
    )
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {metadata.version('systolith')}"
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.execute(arguments))
    except DeviceError as error:
        return _fail(error, EXIT_DEVICE)
    except (SystolithError, OSError) as error:
        return _fail(error, EXIT_USER)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _fail(error: Exception, code: int) -> int:
    print(f"systolith: {error}", file=sys.stderr)
    return code
