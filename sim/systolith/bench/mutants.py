"""Compile damaged models, each in a process of its own with limits on time and memory.

`python -m systolith.bench.mutants --count 10000 MODEL...` ends with exit code 1 if a model ended in
anything but success or one typed error, and names number and seed of each that did. The interpreter
and the models are loaded once; a fork per mutant keeps what one does from the next.
"""

import argparse
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import SystolithError
from systolith.arch.presets import PRESETS
from systolith.compiler import legalize_onnx, pipeline
from systolith.compiler.frontend import onnx, tflite

from . import onnx_mutation, tflite_mutation

TIME_LIMIT_S = 2
MEMORY_LIMIT_BYTES = 512 << 20

_HANG_S = 10 * TIME_LIMIT_S
_COMPILED, _REFUSED, _RAW = 0, 1, 2


@dataclass(frozen=True)
class Outcome:
    """How one mutant ended: `kind` is compiled, refused, raw (another exception), or killed."""

    number: int
    kind: str
    memory_bytes: int


def mutant(path: Path, data: bytes, rng: np.random.Generator) -> bytes:
    """Return a damaged version of a model file."""
    if path.suffix != pipeline.ONNX_SUFFIX:
        return tflite_mutation.mutate(data, rng)
    choices = (onnx_mutation.mutate_bytes, onnx_mutation.mutate_fields)
    return choices[int(rng.integers(2))](data, rng)


def compile_bytes(path: Path, data: bytes, config: AcceleratorConfig) -> None:
    """Compile a model of the kind that the file's name says, from memory."""
    if path.suffix == pipeline.ONNX_SUFFIX:
        reference = legalize_onnx.REFERENCE
        pipeline.compile_graph(onnx.parse(data), config, reference=reference)
    else:
        pipeline.compile_graph(tflite.parse(data), config)


def _child(path: Path, data: bytes, config: AcceleratorConfig) -> int:
    """Compile in this process and return how it ended; a signal ends it otherwise."""
    resource.setrlimit(resource.RLIMIT_CPU, (TIME_LIMIT_S, TIME_LIMIT_S))
    signal.alarm(_HANG_S)  # Whoever waits for something takes no processor time.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    try:
        compile_bytes(path, data, config)
    except SystolithError:
        return _REFUSED
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return _RAW
    return _COMPILED


def run(paths: list[Path], *, count: int, seed: int) -> Iterator[Outcome]:
    """Compile mutants of the models in turn; the mutant of a number depends on the seed alone."""
    config = PRESETS["edge-16x16"]
    models = [(path, path.read_bytes()) for path in paths]
    for path, data in models:
        compile_bytes(path, data, config)  # Imports happen once, before the limits.
    for number in range(count):
        path, data = models[number % len(models)]
        damaged = mutant(path, data, np.random.default_rng([seed, number]))
        child = os.fork()
        if child == 0:
            os._exit(_child(path, damaged, config))
        _, status, usage = os.wait4(child, 0)
        if os.WIFSIGNALED(status):
            kind = signal.Signals(os.WTERMSIG(status)).name
        else:
            kind = {_COMPILED: "compiled", _REFUSED: "refused"}.get(
                os.WEXITSTATUS(status), "raw exception"
            )
        yield Outcome(number, kind, usage.ru_maxrss << 10)


def main() -> int:
    """Run a campaign and print its totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--count", type=int, default=10_000, help="mutants (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds: Counter[str] = Counter()
    most = 0
    for outcome in run(options.models, count=options.count, seed=options.seed):
        kinds[outcome.kind] += 1
        most = max(most, outcome.memory_bytes)
        if outcome.kind not in ("compiled", "refused"):
            print(f"mutant {outcome.number} of seed {options.seed}: {outcome.kind}")
    failed = options.count - kinds["compiled"] - kinds["refused"]
    print(
        f"{options.count} mutants: {kinds['compiled']} compiled, {kinds['refused']} refused with "
        f"one typed error, {failed} failed; {most >> 20} MiB at most"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
