"""`systolith boards`: what can be built for, building it, and what it takes of devices."""

import argparse
from pathlib import Path
from typing import Any

from systolith.arch.blocks import rewrite_block
from systolith.arch.errors import ConfigError, InputError, ToolchainError

from .progress import spinner

_MHZ = 1_000_000


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("boards", help="build for FPGA boards", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the boards and what is built for them")
    listing.set_defaults(execute=_list)
    build = actions.add_parser(
        "build", help="a bitstream where open tools can make one, else sources and a script"
    )
    build.add_argument("board", metavar="NAME", help="board, see `systolith boards list`")
    build.add_argument(
        "--config", metavar="NAME|FILE.toml", help="accelerator (default: the board's)"
    )
    build.add_argument(
        "--clock-mhz", type=float, metavar="MHZ",
        help="frequency of the accelerator (default: the board's)",
    )  # fmt: skip
    build.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER",
        help="folder to write to; made if need be (default: build/NAME)",
    )  # fmt: skip
    build.add_argument(
        "--minutes", type=float, metavar="M",
        help="time for place and route, where open tools do it (default: 120)",
    )  # fmt: skip
    build.add_argument(
        "--seed", type=int, metavar="N",
        help="start of the random numbers of place and route: another one, another frequency",
    )  # fmt: skip
    build.add_argument(
        "--no-build", action="store_true", help="write the tools' inputs and stop there"
    )
    build.set_defaults(execute=_build)
    report = actions.add_parser("report", help="what accelerators take of devices, as a table")
    report.add_argument(
        "--measure", nargs="*", metavar="RUN",
        help="run the tools first: these runs, or all that are missing",
    )  # fmt: skip
    report.add_argument(
        "--json", type=Path, default=Path("docs/boards.json"), metavar="FILE",
        help="figures, kept after each run (default: %(default)s)",
    )  # fmt: skip
    report.add_argument(
        "--markdown", type=Path, metavar="FILE", help="document whose table is replaced"
    )
    report.set_defaults(execute=_report)


def _import_boards() -> Any:
    try:
        from systolith.boards import build, catalog, report
    except ImportError as error:
        raise ToolchainError(
            f"Building for boards needs a package that cannot be imported ({error}); install it "
            "with \"pip install 'systolith[hw,boards]'\""
        ) from error
    return build, catalog, report


def _list(_arguments: argparse.Namespace) -> int:
    """Print a line per board."""
    _, catalog, _ = _import_boards()
    for board in catalog.BOARDS:
        made = "bitstream" if board.tools == "open" else "sources and script"
        print(
            f"{board.name:10} {board.title}: {board.device.name}, {board.config} at "
            f"{board.clock_of(board.config) / _MHZ:g} MHz, {made}. {board.note}"
        )
    return 0


def _build(arguments: argparse.Namespace) -> int:
    """Build, and print the files and what was reached."""
    build, catalog, _ = _import_boards()
    board = catalog.find(arguments.board)
    config = catalog.board_config(board, arguments.config)
    clock_hz = board.clock_of(config.name)
    if arguments.clock_mhz is not None:
        clock_hz = round(arguments.clock_mhz * _MHZ)
    if clock_hz <= 0:
        raise ConfigError(f"Clock must be a positive frequency, not {arguments.clock_mhz:g} MHz")
    minutes = build.ROUTE_MINUTES if arguments.minutes is None else arguments.minutes
    if minutes <= 0:
        raise ConfigError(f"Time for place and route must be positive, not {minutes:g} minutes")
    folder: Path = arguments.output or Path("build") / board.name
    if folder.exists() and not folder.is_dir():
        raise InputError(f'Output "{folder}" must be a folder')
    with spinner(f"building {config.name} for {board.title}"):
        if board.processor:
            from systolith.package import writer

            files = writer.write(config, folder, clock_mhz=clock_hz / _MHZ)
            result = build.BuildResult(files=files)
        else:
            result = build.build(
                board,
                config,
                folder,
                clock_hz=clock_hz,
                do_build=not arguments.no_build,
                minutes=minutes,
                seed=build.ROUTE_SEED if arguments.seed is None else arguments.seed,
            )
    for path in result.files:
        print(path)
    if result.usage:
        used, device = result.usage, board.device
        print(
            f"{used.luts} of {device.luts} lookup tables, {used.registers} of {device.registers} "
            f"flip-flops, {used.multipliers} of {device.multipliers} multipliers, "
            f"{used.block_rams} of {device.block_rams} block RAMs"
        )
        print(
            f"built for {result.clock_hz / _MHZ:.1f} MHz, reached {result.fmax_hz / _MHZ:.1f} MHz: "
            f"{result.limit}"
        )
    return 0


def _report(arguments: argparse.Namespace) -> int:
    """Run the tools if asked to, and print or write the table."""
    _, _, report = _import_boards()
    if arguments.measure is not None:
        for run in report.chosen_runs(arguments.measure, arguments.json):
            with spinner(f"measuring {run.name}"):
                report.measure(run, arguments.json)
    text = report.render(arguments.json)
    if arguments.markdown:
        rewrite_block(arguments.markdown, report.BLOCK, text.splitlines())
    else:
        print(text)
    return 0
