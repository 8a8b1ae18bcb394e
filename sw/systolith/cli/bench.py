"""`systolith bench`: cycles of real networks on the generated hardware, with every byte checked."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from systolith.arch.blocks import rewrite_block
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import InputError, SystolithError
from systolith.arch.presets import PRESETS, find_config

from . import files, options
from .progress import spinner

if TYPE_CHECKING:
    from systolith.bench.suite import Case
    from systolith.bench.suite_json import Report

DEFAULT_MODELS = Path("../shared/models")
DIGITS = Path("examples/digits")

MACHINES: dict[str, tuple[int, ...]] = {
    "edge-16x16": (128, 64, 256),
    "edge-8x8": (64, 128),
    "edge-32x32": (256, 128, 64),
}
"""What `--all` measures: accelerators, and the bits of their AXI ports."""

DEEP_MACHINES = ("edge-8x8", "edge-10x12")
"""Accelerators that `--all` measures with `deep_pipeline`, as ECP5 boards are built."""

LAYER_MACHINE = "edge-16x16"
"""Accelerator whose single layers are measured by `--all`."""


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
    _add_machine_options(parser)
    _add_effort_options(parser)
    _add_file_options(parser)
    parser.set_defaults(execute=execute)


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--configs", nargs="+", default=[options.DEFAULT_CONFIG], metavar="NAME|FILE.toml",
        help=f"accelerators (default: {options.DEFAULT_CONFIG}; known: {', '.join(PRESETS)})",
    )  # fmt: skip
    parser.add_argument(
        "--axi-bits", nargs="+", type=int, metavar="BITS",
        help="widths of the AXI port to run each accelerator with (default: its own)",
    )  # fmt: skip
    parser.add_argument(
        "--layers", nargs="*", default=[], metavar="NAME|FILE.toml",
        help="accelerators on which single layers and chains of layers are measured, too",
    )  # fmt: skip
    parser.add_argument(
        "--all", action="store_true",
        help=f"run {', '.join(MACHINES)} with ports of 8 to 32 bytes per cycle, and the single layers",
    )  # fmt: skip


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
        help="figures that --json wrote earlier; what they have is not measured again",
    )  # fmt: skip
    add("--markdown", "FILE", "document to write")
    add("--json", "FILE", "figures to write, after each network")
    add("--readme", "FILE", "document whose block of results is replaced")
    add("--trace", "FOLDER", "folder for a timeline of each run, for Perfetto or Chrome")


def execute(arguments: argparse.Namespace) -> int:
    """Run everything, then write and print the tables; return 1 if anything failed."""
    from systolith.bench import suite_json, suite_report

    files.check_writable(arguments.markdown, arguments.json, arguments.readme)
    if arguments.trace is not None:
        arguments.trace.mkdir(parents=True, exist_ok=True)
    report = suite_json.read_report(arguments.earlier)
    failures = _run_networks(arguments, report) + _run_layers(arguments, report)
    text = suite_report.document(report)
    if arguments.markdown:
        files.write_bytes(arguments.markdown, text.encode())
    if arguments.readme:
        rewrite_block(arguments.readme, suite_report.BLOCK, suite_report.summary(report.networks))
    print(text)
    for failure in failures:
        print(f"systolith: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _run_networks(arguments: argparse.Namespace, report: "Report") -> list[str]:
    """Add the networks to a report; return what failed, which does not keep others from running."""
    from systolith.bench import suite

    failures = []
    known = {figure.key for figure in report.networks}
    cases = _cases(arguments)
    for config in _configs(arguments):
        for case in cases:
            if (case.name, config.name) in known:
                continue
            name = f"{case.name}-{config.name}.json"
            try:
                with spinner(f"{case.name} on {config.name}"):
                    figure = suite.run_case(
                        case,
                        config,
                        samples=min(arguments.samples, len(next(iter(case.expected.values())))),
                        golden_samples=arguments.golden_samples,
                        trace=arguments.trace / name if arguments.trace else None,
                    )
            except SystolithError as error:
                failures.append(f"{case.name} on {config.name}: {error}")
                print(failures[-1], file=sys.stderr, flush=True)
                continue
            report.networks.append(figure)
            _write(arguments, report)
            print(f"{figure.model:<28} {figure.config:<18} {figure.cycles:>10,} cycles", flush=True)
    return failures


def _run_layers(arguments: argparse.Namespace, report: "Report") -> list[str]:
    """Add single layers and chains to a report; return what failed."""
    from systolith.bench import layer_bars

    failures = []
    known = {layer.config for layer in report.layers}
    for name in [LAYER_MACHINE] if arguments.all else arguments.layers:
        config = find_config(name)
        if config.name in known:
            continue
        try:
            with spinner(f"layers on {config.name}"):
                report.layers += layer_bars.measure_all(config)
        except SystolithError as error:
            failures.append(f"layers on {config.name}: {error}")
        _write(arguments, report)
    return failures


def _write(arguments: argparse.Namespace, report: "Report") -> None:
    if arguments.json:
        files.write_bytes(arguments.json, report.to_json().encode())


def _configs(arguments: argparse.Namespace) -> Iterator[AcceleratorConfig]:
    from systolith.bench import suite

    machines = MACHINES if arguments.all else dict.fromkeys(arguments.configs, arguments.axi_bits)
    for name, widths in machines.items():
        config = find_config(name)
        for bits in widths or (config.axi_data_bits,):
            yield suite.with_axi(config, bits)
    if arguments.all:
        for name in DEEP_MACHINES:
            yield find_config(name).with_deep_pipeline()


def _cases(arguments: argparse.Namespace) -> "list[Case]":
    from systolith.bench import suite

    cases = suite.find_cases(arguments.models) if arguments.models.is_dir() else []
    if DIGITS.is_dir():
        cases.append(suite.digits_case(DIGITS))
    if arguments.only is not None:
        unknown = set(arguments.only) - {case.name for case in cases}
        if unknown:
            raise InputError(f"Models {sorted(unknown)} must be among {[c.name for c in cases]}")
        cases = [case for case in cases if case.name in arguments.only]
    if not cases and not arguments.earlier and not arguments.layers:
        raise InputError(f'Folder "{arguments.models}" of models must exist')
    return cases
