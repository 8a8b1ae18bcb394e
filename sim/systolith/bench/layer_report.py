"""The figures of single layers as Markdown."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from systolith.arch.config import AcceleratorConfig
from systolith.arch.presets import PRESETS
from systolith.bench.layer_bars import (
    BUBBLE,
    DEPTHWISE,
    DEPTHWISE_CHANNELS,
    DEPTHWISE_PIXELS,
    DEPTHWISE_RATE,
    FIRST,
    FIRST_CHANNELS,
    FIRST_SHARE,
    LayerFigures,
)
from systolith.bench.lost_cycles import LOAD
from systolith.bench.markdown import table
from systolith.compiler.cost_engines import PLAIN_DRAIN_LATENCY, WRITE_LATENCY, execute_latency

GOALS: Mapping[str, str] = {
    DEPTHWISE: f"3x3 depthwise, stride 1, {DEPTHWISE_CHANNELS} channels or more, "
    f"{DEPTHWISE_PIXELS} pixels or more: {DEPTHWISE_RATE:.0f} multiplications per cycle",
    FIRST: f"first layer of {FIRST_CHANNELS} channels: {100 * FIRST_SHARE:.0f} % of the array",
    BUBBLE: "cycles without a vector between a layer and the next: R + C + 30",
}

_MACHINE = PRESETS["edge-16x16"]

REMEDIES: Mapping[str, tuple[str, ...]] = {
    DEPTHWISE: (
        "Depthwise layers: channels beyond a multiple of C take a column tile of their own, most of whose",
        "columns are idle; its columns would have to serve other pixels, which column feeds cannot.",
    ),
    FIRST: (
        "First layers: neighboring output pixels share a vector where that gains (`lower/pack.py`); what misses",
        "has a kernel line that fills little of R rows, or columns that no second pixel fits into.",
    ),
    BUBBLE: (
        "Bubbles: where a layer has few tiles, its last one is drained row by row behind its last sum, and",
        "nothing else is there to do. DRAIN could follow EXECUTE row by row, if sums of the last step went",
        "past the accumulators, whose read port an adding step occupies.",
    ),
}
"""What would bring the layers that miss to their goals."""

_WORST = 12
"""Rows of the table of layers that miss, for each goal."""


def section(layers: Sequence[LayerFigures]) -> list[str]:
    """Return the section about layers, without its heading.

    Parameters
    ----------
    layers : sequence of LayerFigures
        Of single layers, chains and networks.
    """
    rows = [
        row for goal in GOALS for config in _configs(layers) for row in _rows(layers, goal, config)
    ]
    header = ["goal", "configuration", "of", "layers", "reach it", "worst", "layer"]
    missed = [goal for goal in GOALS if any(layer.meets(goal) is False for layer in layers)]
    return [
        *_introduction(),
        "",
        *table(header, rows, text=3),
        "",
        *(_misses(layers, missed) if missed else ["None misses its goal."]),
    ]


def _introduction() -> list[str]:
    until_sum = f"{execute_latency(_MACHINE) + 1} until DRAIN may follow the sum"
    until_byte = f"lanes + {PLAIN_DRAIN_LATENCY + WRITE_LATENCY + 1} until its byte is"
    return [
        "A layer counts from its first vector to its last, without cycles that wait for loads: its input",
        "and weights are there. Measured in networks of a single layer, in chains of four that depend on",
        "each other, and in the networks above.",
        "",
        "A vector that needs what the sum of another one becomes enters the array at least",
        f"{least_bubble(_MACHINE)} cycles later on `{_MACHINE.name}`: {until_sum}, {until_byte}.",
        "A layer hides them behind tiles that do not depend on each other, if it has some.",
    ]


def _misses(layers: Sequence[LayerFigures], missed: Sequence[str]) -> list[str]:
    """Return the tables of what misses, and what would reach the goals."""
    header = ["goal", "configuration", "of", "layer", "times", "reached", "cause"]
    rows = [row for goal in missed for row in _missed(layers, goal)]
    return [
        f"Those that miss, of each goal the worst {_WORST}:",
        "",
        *table(header, rows, text=4),
        *(line for goal in missed for line in ("", *REMEDIES[goal])),
    ]


def least_bubble(config: AcceleratorConfig) -> int:
    """Return the cycles between vectors of which one needs a byte that the other's sum becomes."""
    execute = execute_latency(config) + 1
    return execute + config.lanes + PLAIN_DRAIN_LATENCY + WRITE_LATENCY + 1


def _configs(layers: Iterable[LayerFigures]) -> list[str]:
    return list(dict.fromkeys(layer.config for layer in layers))


def _rows(layers: Iterable[LayerFigures], goal: str, config: str) -> list[list[str]]:
    groups: dict[str, list[LayerFigures]] = {}
    for layer in layers:
        if layer.config == config and layer.meets(goal) is not None:
            groups.setdefault(layer.network, []).append(layer)
    return [
        [
            GOALS[goal],
            f"`{config}`",
            network,
            str(len(group)),
            str(sum(bool(layer.meets(goal)) for layer in group)),
            _reached(worst := _worst(group, goal), goal),
            worst.shape,
        ]
        for network, group in groups.items()
    ]


def _worst(group: Sequence[LayerFigures], goal: str) -> LayerFigures:
    if goal == BUBBLE:
        return max(group, key=lambda layer: layer.bubble_cycles)
    return min(group, key=lambda layer: layer.rate)


def _reached(layer: LayerFigures, goal: str) -> str:
    if goal == BUBBLE:
        return f"{layer.bubble_cycles}"
    return f"{layer.rate:.1f}" if goal == DEPTHWISE else f"{100 * layer.share:.0f} %"


def _missed(layers: Iterable[LayerFigures], goal: str) -> list[list[str]]:
    """Return the rows of the layers that miss a goal, alike ones together, the worst first."""
    counts: Counter[tuple[str, ...]] = Counter()
    order: dict[tuple[str, ...], float] = {}
    for layer in layers:
        if layer.meets(goal) is False:
            place = (goal, f"`{layer.config}`", layer.network, layer.shape)
            row = (*place, _reached(layer, goal), _cause(layer, goal))
            counts[row] += 1
            order[row] = _shortfall(layer, goal)
    worst = sorted(counts, key=lambda row: -order[row])[:_WORST]
    return [[*row[:4], str(counts[row]), *row[4:]] for row in worst]


def _shortfall(layer: LayerFigures, goal: str) -> float:
    """Return by which factor a layer misses a goal."""
    if goal == BUBBLE:
        return layer.bubble_cycles / layer.bubble_limit
    return DEPTHWISE_RATE / layer.rate if goal == DEPTHWISE else FIRST_SHARE / layer.share


def _cause(layer: LayerFigures, goal: str) -> str:
    """Return what takes most of the cycles that are missing."""
    if goal == BUBBLE:
        return _largest(layer.bubble or {})
    bound = DEPTHWISE_RATE if goal == DEPTHWISE else FIRST_SHARE * layer.multipliers
    reach = layer.macs / layer.vectors
    if reach < bound:
        return f"ragged tiles: {reach:.0f} of {layer.multipliers} multipliers per vector"
    return _largest(layer.lost)


def _largest(causes: Mapping[str, int]) -> str:
    rest = {cause: cycles for cause, cycles in causes.items() if cause != LOAD}
    cause = max(rest, key=lambda name: rest[name])
    return f"{cause}: {rest[cause]}"
