"""`systolith run`: a model or program, on a device, for samples in a file."""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from systolith.api import InferenceSession
from systolith.arch.errors import InputError
from systolith.arch.program import Program

from . import files, options, summary
from .progress import progress_bar, spinner

EXIT_DIFFERENT = 3


def add_parser(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "run",
        help="run a model on a device",
        description=__doc__,
        epilog="Arrays in the npz files have the names of the model's tensors and the shape "
        "[samples, *tensor shape].",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="int8 TFLite model, or a program")
    options.add_config(parser)
    options.add_reference(parser)
    options.add_batch(parser)
    options.add_device(parser)
    _add_time_options(parser)
    _add_file_options(parser)
    _add_memory_options(parser)
    parser.set_defaults(execute=execute)


def _add_file_options(parser: argparse.ArgumentParser) -> None:
    def add(name: str, text: str, **more: Any) -> None:
        parser.add_argument(name, type=Path, metavar="FILE", help=text, **more)

    add("--input", "npz file with the inputs", required=True)
    add("--output", "npz file to write the outputs to")
    add("--expect", "npz file with the outputs that must result; exit code 3 if they differ")
    add("--keep-tensors", "npz file to write every quantized tensor to")
    add("--report", "JSON file to write the figures to")
    add("--trace", "JSON file to write what the engines did to, for Perfetto or Chrome (rtl only)")
    parser.add_argument(
        "--samples", type=_positive, metavar="N", help="use the first N samples only"
    )


def _add_time_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait", type=_seconds, default=0.0, metavar="SECONDS",
        help="how long to wait for another session that has the device (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS",
        help="stop a run that takes longer (default: what follows from the predicted cycles)",
    )  # fmt: skip


def _add_memory_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("memory of the simulated hardware")
    group.add_argument(
        "--latency", type=_positive, metavar="CYCLES", help="cycles until it answers (default: 40)"
    )
    group.add_argument(
        "--stall", type=_probability, default=0.0, metavar="P",
        help="probability of a stall, per cycle and channel (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--seed", type=int, default=0, help="seed of the stalls (default: 0)")
    group.add_argument("--waves", type=Path, metavar="FILE.fst", help="write waveforms (slow)")


def execute(arguments: argparse.Namespace) -> int:
    """Run, then write all results, then compare."""
    targets = (arguments.output, arguments.keep_tensors, arguments.report, arguments.waves)
    files.check_writable(*targets, arguments.trace)
    if arguments.trace and arguments.device != "rtl":
        raise InputError(
            f"Device must be rtl for --trace, not {arguments.device}: it has no cycles; "
            "run with --device rtl"
        )
    keep = arguments.keep_tensors is not None
    program = options.load_or_compile(arguments.model, arguments, keep_tensors=keep)
    inputs = files.read_arrays(arguments.input)
    expected = files.read_arrays(arguments.expect) if arguments.expect else None
    if arguments.samples:
        inputs = {name: array[: arguments.samples] for name, array in inputs.items()}
        expected = expected and {n: array[: arguments.samples] for n, array in expected.items()}
    with spinner("preparing the device"):
        session = _open(program, arguments)
    with session:
        names = list(program.tensors) if keep else list(program.outputs)
        start = time.perf_counter()
        with progress_bar("running", _sample_count(program, inputs)) as on_sample:
            arrays = dict(zip(names, session.run(names, inputs, on_sample=on_sample), strict=True))
        seconds = time.perf_counter() - start
        report = summary.run_report(program, arguments.device, session.profile())
    outputs = {name: arrays[name] for name in program.outputs}
    if arguments.output:
        files.write_arrays(arguments.output, outputs)
    if arguments.keep_tensors:
        files.write_arrays(arguments.keep_tensors, arrays)
    if arguments.report:
        files.write_bytes(arguments.report, (json.dumps(report, indent=2) + "\n").encode())
    if arguments.trace:
        with spinner("recording the first sample"):
            files.write_bytes(arguments.trace, _trace(program, inputs, arguments).encode())
    print(summary.text(report))
    print(f"\n{seconds / max(1, report['samples']):.2f} s per inference on this machine")
    return _compare(arrays, expected)


def _trace(program: Program, inputs: dict[str, Any], arguments: argparse.Namespace) -> str:
    """Return the timeline of the first sample, from a run of its own under the same memory."""
    from systolith.bench import record, timeline
    from systolith.bench.rtl import DEFAULT_LATENCY

    infos = {name: program.tensors[name] for name in program.inputs}
    # Whatever forms of stacked samples a session takes, the first one is in front.
    feed = {name: inputs[name].reshape(-1, *info.shape)[0] for name, info in infos.items()}
    recordings = record.record(
        program,
        feed,
        latency=arguments.latency or DEFAULT_LATENCY,
        stall=arguments.stall,
        seed=arguments.seed,
    )
    return timeline.chrome_trace(recordings, program.layers)


def _open(program: Program, arguments: argparse.Namespace) -> InferenceSession:
    return InferenceSession(
        program,
        arguments.device,
        latency=arguments.latency,
        stall=arguments.stall,
        seed=arguments.seed,
        waves=arguments.waves,
        wait_s=arguments.wait,
        timeout_s=arguments.timeout,
    )


def _sample_count(program: Program, inputs: dict[str, Any]) -> int:
    """Return the number of samples; the session refuses inputs of a wrong shape itself."""
    counts = {len(array) for array in inputs.values() if array.ndim}
    if counts == {0}:
        raise InputError(f"Inputs must have at least one sample of {list(program.inputs)}")
    return max(counts, default=1)


def _compare(arrays: dict[str, Any], expected: dict[str, Any] | None) -> int:
    if expected is None:
        return 0
    difference = files.first_difference(arrays, expected)
    if difference is None:
        print("Results equal those expected: 0 bytes differ")
        return 0
    print(f"systolith: results differ: {difference}", file=sys.stderr)
    return EXIT_DIFFERENT


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number of seconds, not {value}")
    return value


def _probability(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"must be in 0..1, without 1, not {value}")
    return value
