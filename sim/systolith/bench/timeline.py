"""Timeline of a run: what each engine did when, as a trace that Perfetto and Chrome open.

Of each engine there are two tracks: its instructions in order, and what it did in each cycle, which
for EXECUTE names the cause of every stall.
"""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.isa import Engine, iterate
from systolith.arch.program import AcceleratorSegment, Layer
from systolith.bench.rtl.device import STATES

ENGINES = (Engine.LOAD, Engine.EXECUTE, Engine.DRAIN, Engine.STORE)

LABELS = {
    "array_busy": "vectors",
    "execute_wait_load": "wait: LOAD",
    "execute_wait_drain": "wait: DRAIN",
    "execute_wait_store": "wait: STORE",
    "execute_wait_weights": "wait: weight tile",
    "execute_idle": "no instruction",
    "drain_busy": "rows",
    "drain_wait_port": "wait: scratchpad",
    "load_busy": "bytes",
    "load_wait_port": "wait: scratchpad",
    "store_busy": "bytes",
}
"""What a state is called in the trace; of two at once, the one named later is shown."""


_BUSY = {
    Engine.LOAD: "load_busy",
    Engine.EXECUTE: "array_busy",
    Engine.DRAIN: "drain_busy",
    Engine.STORE: "store_busy",
}


@dataclass(frozen=True)
class Recording:
    """One run of a segment, in cycles since the doorbell.

    Parameters
    ----------
    segment : AcceleratorSegment
        What ran.
    cycles : int
        From doorbell to done.
    completions : sequence of (engine, completed instructions, cycle)
        From the device's timeline.
    states : int64[n, 2]
        Rows of (cycle, bits by `systolith.bench.rtl.device.STATES` from then on).
    counters : mapping of str to int
        Performance counters.
    """

    segment: AcceleratorSegment
    cycles: int
    completions: Sequence[tuple[int, int, int]]
    states: NDArray[np.int64]
    counters: dict[str, int] = field(default_factory=dict)


def completion_times(recording: Recording) -> list[int]:
    """Return when each instruction was completed, in program order; HALT at the end."""
    times: list[list[int]] = [[] for _ in ENGINES]
    for engine, count, cycle in recording.completions:
        times[engine].extend([cycle] * (count - len(times[engine])))
    taken = [0] * len(ENGINES)
    result = []
    for item in iterate(recording.segment.code):
        if item.ENGINE == Engine.SEQUENCER:
            result.append(recording.cycles)
            continue
        result.append(times[item.ENGINE][taken[item.ENGINE]])
        taken[item.ENGINE] += 1
    return result


def chrome_trace(recordings: Iterable[Recording], layers: Sequence[Layer]) -> str:
    """Return the trace of one or more runs, one after the other, as Chrome's JSON.

    A microsecond of the trace is a cycle.

    Parameters
    ----------
    recordings : iterable of Recording
        Runs in order.
    layers : sequence of Layer
        Layers of the program, which instructions refer to.
    """
    events = list(_names())
    origin = 0
    for recording in recordings:
        events += _instructions(recording, layers, origin)
        events += _states(recording, origin)
        origin += recording.cycles
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}, separators=(",", ":"))


def _names() -> Iterator[dict[str, Any]]:
    for engine in ENGINES:
        for track, name in ((2 * engine, "instructions"), (2 * engine + 1, "activity")):
            yield {
                "ph": "M",
                "pid": 0,
                "tid": track,
                "name": "thread_name",
                "args": {"name": f"{engine.name} {name}"},
            }
            yield {
                "ph": "M",
                "pid": 0,
                "tid": track,
                "name": "thread_sort_index",
                "args": {"sort_index": track},
            }


def _slice(track: int, name: str, first: int, end: int, **args: Any) -> dict[str, Any]:
    event = {"ph": "X", "pid": 0, "tid": track, "name": name, "ts": first, "dur": end - first}
    return {**event, "args": args} if args else event


def _instructions(
    recording: Recording, layers: Sequence[Layer], origin: int
) -> Iterator[dict[str, Any]]:
    """Yield a slice per instruction.

    It begins when its engine works for the first time after the end of the instruction before; the
    engines are pipelines, so that its own work may have begun earlier.
    """
    previous = [0] * len(ENGINES)
    busy = {engine: _busy(recording, engine) for engine in ENGINES}
    items = zip(
        iterate(recording.segment.code),
        completion_times(recording),
        recording.segment.layer_of,
        strict=True,
    )
    for index, (item, time, layer) in enumerate(items):
        if item.ENGINE == Engine.SEQUENCER:
            continue
        first = min(time, _first_busy(busy[item.ENGINE], previous[item.ENGINE]))
        previous[item.ENGINE] = time
        name = layers[layer].name if layer >= 0 else "no layer"
        yield _slice(
            2 * item.ENGINE,
            item.OPCODE.name,
            origin + first,
            origin + time,
            index=index,
            text=str(item),
            layer=name,
        )


def _busy(recording: Recording, engine: Engine) -> list[tuple[int, int]]:
    """Return (first cycle, cycle after the last) of each stretch in which an engine works."""
    bit = STATES.index(_BUSY[engine])
    works = (recording.states[:, 1] >> bit & 1).astype(bool)
    ends = np.append(recording.states[1:, 0], recording.cycles)
    return list(zip(recording.states[works, 0].tolist(), ends[works].tolist(), strict=True))


def _first_busy(busy: Sequence[tuple[int, int]], time: int) -> int:
    """Return the first cycle from `time` on in which an engine works, or `time`."""
    index = bisect_right(busy, time, key=lambda stretch: stretch[1])
    return max(time, busy[index][0]) if index < len(busy) else time


def _states(recording: Recording, origin: int) -> Iterator[dict[str, Any]]:
    """Yield a slice per stretch of cycles in which an engine did the same."""
    for engine in ENGINES:
        names = [n for n in STATES if engine_of(n) == engine]
        begun, label = 0, ""
        for cycle, bits in recording.states.tolist():
            active = [LABELS[n] for n in names if bits >> STATES.index(n) & 1]
            now = active[-1] if active else ""
            if now == label:
                continue
            if label:
                yield _slice(2 * engine + 1, label, origin + begun, origin + cycle)
            begun, label = cycle, now


def engine_of(state: str) -> Engine:
    """Return the engine that a state is one of."""
    prefix = state.partition("_")[0]
    return Engine.EXECUTE if prefix == "array" else Engine[prefix.upper()]
