"""Cycles of each layer, from the times at which its instructions completed."""

from collections.abc import Sequence

from systolith.arch.isa import Engine, iterate
from systolith.arch.program import AcceleratorSegment

from .transport import Event

_ENGINES = 4


def layer_cycles(
    segment: AcceleratorSegment, timeline: Sequence[Event], cycles: int
) -> dict[int, int]:
    """Return the cycles of each layer of a segment, by index in `Program.layers`.

    Layers overlap. A layer's cycles are those from the completion of all layers before it to the
    completion of its own last instruction; what is left up to done belongs to the last layer. So
    they add up to `cycles`.
    """
    completed = _completion_times(timeline)
    dispatched = [0] * _ENGINES
    finish: dict[int, int] = {}
    for instruction, layer in zip(iterate(segment.code), segment.layer_of, strict=True):
        engine = instruction.ENGINE
        if engine == Engine.SEQUENCER:
            continue
        time = completed[engine][dispatched[engine]]
        dispatched[engine] += 1
        if layer >= 0:
            finish[layer] = max(finish.get(layer, 0), time)
    result: dict[int, int] = {}
    previous = 0
    for layer in sorted(finish):
        end = max(finish[layer], previous)
        result[layer] = end - previous
        previous = end
    if result:
        result[max(result)] += cycles - previous
    return result


def _completion_times(timeline: Sequence[Event]) -> list[list[int]]:
    """Return, per engine, the cycle at which its n-th instruction completed."""
    times: list[list[int]] = [[] for _ in range(_ENGINES)]
    for engine, count, cycle in timeline:
        times[engine].extend([cycle] * (count - len(times[engine])))
    return times
