"""Where the cycles of a run went: from multiplications to everything that was not one.

    cycles = ideal + vectors that do no or not all multiplications + cycles without vectors

The first part is counted in the program, the second by the hardware in every cycle; both add up to
the cycles from doorbell to done.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from systolith.arch.config import AcceleratorConfig, ceil_div
from systolith.arch.isa import Geometry, Pass, iterate
from systolith.arch.program import Layer
from systolith.bench.rtl.device import STATES
from systolith.bench.timeline import Recording

IDEAL = "ideal"
RAGGED = "ragged tiles"
DEPTHWISE = "depthwise"
POOL = "pool and mean"
START = "start"
LOAD = "waiting for loads"
DRAIN = "waiting for drains"
STORE = "waiting for stores"
WEIGHTS = "weight shift-in"
IDLE = "no instruction"
ORDER = "accumulator order"
END = "end"

CAUSES = (IDEAL, RAGGED, DEPTHWISE, POOL, START, LOAD, DRAIN, STORE, WEIGHTS, IDLE, ORDER, END)
"""Columns of the table, in order; `ORDER` is what the accumulators' turnaround and passes that wait
for passes take."""

_WAITS = {
    "execute_wait_load": LOAD,
    "execute_wait_drain": DRAIN,
    "execute_wait_store": STORE,
    "execute_wait_weights": WEIGHTS,
    "execute_idle": IDLE,
}


def passes(recording: Recording) -> Iterator[tuple[int, int]]:
    """Yield (layer, vectors) of each PASS of a program, in order."""
    steps = 1
    items = zip(iterate(recording.segment.code), recording.segment.layer_of, strict=True)
    for item, layer in items:
        if isinstance(item, Geometry):
            steps = item.ky_count * item.kx_count * item.chunk_count
        elif isinstance(item, Pass):
            yield layer, steps * (item.rows * item.line_vectors + item.tail)


def states_of_cycles(recording: Recording) -> NDArray[np.int64]:
    """Return the state of each cycle, from doorbell to done; bit 0 is that of a vector."""
    bits = np.zeros(recording.cycles, np.int64)
    states = recording.states
    ends = [*states[1:, 0].tolist(), recording.cycles]
    for (first, value), end in zip(states.tolist(), ends, strict=True):
        bits[max(first, 0) : min(end, recording.cycles)] = value
    return bits


def causes_of(bits: NDArray[np.int64]) -> dict[str, int]:
    """Return the number of cycles by cause, of cycles without a vector between others with one."""
    result = {}
    for name, cause in _WAITS.items():
        result[cause] = int(np.count_nonzero(bits >> STATES.index(name) & 1))
    result[ORDER] = bits.size - sum(result.values())
    return result


def table(
    recordings: Sequence[Recording], layers: Sequence[Layer], config: AcceleratorConfig
) -> dict[str, int]:
    """Return the cycles of each cause in :data:`CAUSES`; they add up to those of the runs.

    Parameters
    ----------
    recordings : sequence of Recording
        The segments of one inference.
    layers : sequence of Layer
        Layers of the program.
    config : AcceleratorConfig
        Machine.
    """
    result = dict.fromkeys(CAUSES, 0)
    for recording in recordings:
        for cause, cycles in _without_vectors(recording).items():
            result[cause] += cycles
    vectors: dict[int, int] = {}
    for recording in recordings:
        for index, count in passes(recording):
            vectors[index] = vectors.get(index, 0) + count
    exact = 0
    for index, count in vectors.items():
        layer = layers[index]
        ideal = ceil_div(layer.macs, config.macs) if layer.macs else 0
        exact += ideal
        result[_kind(layer)] += count - ideal
    result[IDEAL] = exact
    return result


def _kind(layer: Layer) -> str:
    if not layer.macs:
        return POOL
    return DEPTHWISE if "DEPTHWISE" in layer.op.upper() else RAGGED


def _without_vectors(recording: Recording) -> dict[str, int]:
    """Return the cycles without a vector by cause, from the state of each cycle."""
    bits = states_of_cycles(recording)
    busy = np.flatnonzero(bits & 1)
    if not busy.size:
        return {START: bits.size}
    inner = bits[busy[0] : busy[-1] + 1]
    result = causes_of(inner[inner & 1 == 0])
    result[START], result[END] = int(busy[0]), bits.size - 1 - int(busy[-1])
    return result
