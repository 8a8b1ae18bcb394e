"""What a layer takes by itself: from its first vector to its last, and the gap before it.

Vectors enter the array in order, one per busy cycle, so the program says whose each of them is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from systolith.bench import lost_cycles
from systolith.bench.timeline import Recording


@dataclass
class LayerSpan:
    """Cycles of a layer in which the array is its own.

    Parameters
    ----------
    layer : int
        Index in `Program.layers`.
    vectors : int
        Cycles with a vector.
    waits : dict of str to int
        Cycles without one between its first and last vector, by cause of `lost_cycles`. Where
        layers take turns, those before a pass belong to the pass.
    gap : dict of str to int or None
        Cycles without one from the last vector of whatever ran before to its first, by cause; None
        of the first layer.
    """

    layer: int
    vectors: int = 0
    waits: dict[str, int] = field(default_factory=dict)
    gap: dict[str, int] | None = None

    @property
    def cycles(self) -> int:
        """Vectors and waits that are not for LOAD: inputs and weights are there."""
        return self.vectors + sum(self.waits.values()) - self.waits.get(lost_cycles.LOAD, 0)

    @property
    def bubble(self) -> int:
        """Cycles of the gap that are not for LOAD."""
        gap = self.gap or {}
        return sum(gap.values()) - gap.get(lost_cycles.LOAD, 0)


def spans(recording: Recording) -> list[LayerSpan]:
    """Return the span of each layer with vectors, in order of its first one.

    Raises
    ------
    ValueError
        The hardware streamed another number of vectors than the program has.
    """
    bits = lost_cycles.states_of_cycles(recording)
    busy = np.flatnonzero(bits & 1)
    work = list(lost_cycles.passes(recording))
    if sum(vectors for _, vectors in work) != busy.size:
        raise ValueError(f"Run must have the vectors of its program, not {busy.size}")
    result: dict[int, LayerSpan] = {}
    begin, previous = 0, -1
    for layer, vectors in work:
        first, last = int(busy[begin]), int(busy[begin + vectors - 1])
        begin += vectors
        if layer in result:
            span = result[layer]
            _add(span.waits, lost_cycles.causes_of(bits[previous + 1 : first]))
        else:
            span = result[layer] = LayerSpan(layer)
            if previous >= 0:
                span.gap = lost_cycles.causes_of(bits[previous + 1 : first])
        span.vectors += vectors
        inner = bits[first : last + 1]
        _add(span.waits, lost_cycles.causes_of(inner[inner & 1 == 0]))
        previous = last
    return list(result.values())


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for cause, cycles in more.items():
        total[cause] = total.get(cause, 0) + cycles


def reason(causes: Mapping[str, int]) -> str:
    """Return the cause with the most cycles but loads, or an empty text."""
    rest = {cause: n for cause, n in causes.items() if n and cause != lost_cycles.LOAD}
    return max(rest, key=lambda cause: rest[cause], default="")


def rate(span: LayerSpan, macs: int) -> float:
    """Return the multiplications per cycle of a layer."""
    return macs / span.cycles


def merge(recordings: Sequence[Recording]) -> list[LayerSpan]:
    """Return the spans of all segments of an inference."""
    return [span for recording in recordings for span in spans(recording)]
