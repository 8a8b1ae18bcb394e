"""Where the cycles of a run went: from multiplications to everything that was not one.

    cycles = ideal + vectors that do no or not all multiplications + cycles without vectors

The first part is counted in the program, the second by the hardware in every cycle; both add up to
the cycles from doorbell to done.
"""

from collections.abc import Sequence

import numpy as np

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


def vectors_of_layers(recording: Recording) -> dict[int, int]:
    """Return the vectors that are streamed for each layer, by its index."""
    result: dict[int, int] = {}
    steps = 1
    items = zip(iterate(recording.segment.code), recording.segment.layer_of, strict=True)
    for item, layer in items:
        if isinstance(item, Geometry):
            steps = item.ky_count * item.kx_count * item.chunk_count
        elif isinstance(item, Pass):
            vectors = steps * (item.rows * item.line_vectors + item.tail)
            result[layer] = result.get(layer, 0) + vectors
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
        for index, count in vectors_of_layers(recording).items():
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
    cycles = recording.cycles
    bits = np.zeros(cycles, np.int64)
    states = recording.states
    for (first, value), end in zip(states.tolist(), [*states[1:, 0].tolist(), cycles], strict=True):
        bits[max(first, 0) : min(end, cycles)] = value
    busy = np.flatnonzero(bits & 1)
    result: dict[str, int] = {}
    if not busy.size:
        return {START: cycles}
    inner = bits[busy[0] : busy[-1] + 1]
    result[START], result[END] = int(busy[0]), cycles - 1 - int(busy[-1])
    other = inner.size - busy.size
    for name, cause in _WAITS.items():
        result[cause] = int(np.count_nonzero(inner >> STATES.index(name) & 1))
        other -= result[cause]
    result[ORDER] = other
    return result
