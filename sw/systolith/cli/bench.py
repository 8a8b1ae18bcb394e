"""`systolith bench`: cycles of real networks on the generated hardware, with every byte checked."""

import argparse
import json
from pathlib import Path
from typing import Any

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import InputError
from systolith.arch.presets import PRESETS, find_config

from . import files, options
from .progress import spinner

DEFAULT_MODELS = Path("../shared/models")
DIGITS = Path("examples/digits")
SCALING_CONFIGS = ("edge-8x8", "edge-16x16", "edge-32x32")
SCALING_AXI_BITS = (64, 128, 256)


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "bench", help="measure networks on the simulated hardware", description=__doc__
    )
    parser.add_argument(
        "--models", type=Path, default=DEFAULT_MODELS, metavar="FOLDER",
        help="folder of models with inputs and expected outputs (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--only", nargs="*", metavar="NAME", help="models to run (default: all)")
    parser.add_argument(
        "--configs", nargs="+", default=[options.DEFAULT_CONFIG], metavar="NAME|FILE.toml",
        help=f"accelerators (default: {options.DEFAULT_CONFIG}; known: {', '.join(PRESETS)})",
    )  # fmt: skip
    parser.add_argument(
        "--axi-bits", nargs="+", type=int, metavar="BITS",
        help="widths of the AXI port to run each accelerator with (default: its own)",
    )  # fmt: skip
    parser.add_argument(
        "--scaling", action="store_true",
        help=f"run {', '.join(SCALING_CONFIGS)} with ports of 8, 16 and 32 bytes per cycle",
    )  # fmt: skip
    _add_effort_options(parser)
    _add_file_options(parser)
    parser.set_defaults(execute=execute)


def _add_effort_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--samples", type=int, default=4, metavar="N",
        help="inputs of each model on the RTL (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--golden-samples", type=int, default=1, metavar="N",
        help="inputs of each model on the golden model (default: %(default)s)",
    )  # fmt: skip


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    def add(name: str, metavar: str, text: str) -> None:
        parser.add_argument(name, type=Path, metavar=metavar, help=text)

    parser.add_argument(
        "--with", dest="earlier", type=Path, nargs="+", default=[], metavar="FILE",
        help="figures that --json wrote earlier, to put in front; with --only and no name, nothing else",
    )  # fmt: skip
    add("--markdown", "FILE", "document to write")
    add("--json", "FILE", "figures to write")
    add("--readme", "FILE", "document whose block of results is replaced")
    add("--trace", "FOLDER", "folder for a timeline of each run, for Perfetto or Chrome")


def execute(arguments: argparse.Namespace) -> int:
    """Run everything, then write and print the tables."""
    from systolith.bench import suite, suite_report

    files.check_writable(arguments.markdown, arguments.json, arguments.readme)
    if arguments.trace is not None:
        arguments.trace.mkdir(parents=True, exist_ok=True)
    figures = [f for path in arguments.earlier for f in suite.read_figures(path)]
    for config in _configs(arguments):
        for case in _cases(arguments):
            name = f"{case.name}-{config.name}.json"
            with spinner(f"{case.name} on {config.name}"):
                figure = suite.run_case(
                    case,
                    config,
                    samples=min(arguments.samples, len(next(iter(case.expected.values())))),
                    golden_samples=arguments.golden_samples,
                    trace=arguments.trace / name if arguments.trace else None,
                )
            figures.append(figure)
            print(f"{figure.model:<28} {figure.config:<18} {figure.cycles:>10,} cycles", flush=True)
    text = suite_report.document(figures)
    if arguments.markdown:
        files.write_bytes(arguments.markdown, text.encode())
    if arguments.json:
        report = [figure.to_dict() for figure in figures]
        files.write_bytes(arguments.json, (json.dumps(report, indent=2) + "\n").encode())
    if arguments.readme:
        page = arguments.readme.read_text(encoding="utf-8")
        page = suite_report.replace_block(page, suite_report.summary(figures))
        files.write_bytes(arguments.readme, page.encode())
    print(text)
    return 0


def _configs(arguments: argparse.Namespace) -> list[AcceleratorConfig]:
    from systolith.bench import suite

    names = SCALING_CONFIGS if arguments.scaling else arguments.configs
    widths = SCALING_AXI_BITS if arguments.scaling else arguments.axi_bits
    configs = [find_config(name) for name in names]
    return [
        suite.with_axi(config, bits)
        for config in configs
        for bits in (widths or (config.axi_data_bits,))
    ]


def _cases(arguments: argparse.Namespace) -> list[Any]:
    from systolith.bench import suite

    cases = suite.find_cases(arguments.models) if arguments.models.is_dir() else []
    if DIGITS.is_dir():
        cases.append(suite.digits_case(DIGITS))
    if arguments.only is not None:
        unknown = set(arguments.only) - {case.name for case in cases}
        if unknown:
            raise InputError(f"Models {sorted(unknown)} must be among {[c.name for c in cases]}")
        cases = [case for case in cases if case.name in arguments.only]
    if not cases and not arguments.earlier:
        raise InputError(f'Folder "{arguments.models}" of models must exist')
    return cases
