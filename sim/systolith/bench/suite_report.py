"""The figures of the suite as Markdown."""

from collections.abc import Sequence

from systolith.arch.config import DEEP
from systolith.bench import ethos_u55, layer_report, lost_cycles, targets
from systolith.bench.markdown import table
from systolith.bench.suite import LARGE_LAYER, Figures
from systolith.bench.suite_json import Report

BLOCK = "results"
"""Block of a document that holds the summary."""


def document(report: Report) -> str:
    """Return the whole document."""
    figures = report.networks
    main = _main(figures)
    layers = [*report.layers, *(layer for figure in main for layer in figure.layers)]
    # Of machines with a deep pipeline, there are their cycles only.
    deep = [figure for figure in figures if figure.config.endswith(DEEP) and figure not in main]
    samples = min((figure.samples for figure in figures), default=0)
    return "\n".join(
        [
            "# Results",
            "",
            "Written by `systolith bench`. Cycles are the hardware's own count in the Verilated RTL, from",
            "doorbell to done, with program, weights, parameters and input starting in an AXI memory that",
            "answers after 40 cycles, one beat per cycle, 16 bursts outstanding. Every operator but a final",
            f"softmax runs on the accelerator. Every byte of every output equals TFLite Micro's, on {samples}",
            "inputs or more, which all take the same cycles.",
            "",
            *_section("Networks", networks([*main, *deep]), _NETWORKS),
            *_section("Scaling", scaling(figures), _SCALING),
            *_section("Layers", layer_report.section(layers) if layers else []),
            *_section("Cost model and tools", tools(figures), _TOOLS),
            *_section("Lost cycles", lost(main), before=_LOST),
        ]
    )


_NETWORKS = (
    f"Ideal: every multiplier busy in every cycle. Ethos-U55: {ethos_u55.SOURCE}, with as many",
    "multipliers. Roofline: the larger of multiplications by multipliers and DRAM bytes by port",
    f"width, as a share of the cycles. `{DEEP}`: with `deep_pipeline`, as ECP5 boards are built.",
)
_SCALING = (
    "Cycles, and the share of the multipliers that are busy. Arrays of 8 x 8, 16 x 16 and 32 x 32, each",
    "with other widths of its port; B is bytes per cycle.",
)
_TOOLS = (
    "Seconds are processor time, on the machine that wrote this. The cost model",
    "(`systolith.compiler.cost`) sees the program and no simulation; the layer is the worst of those",
    f"above {LARGE_LAYER:,} cycles.",
)
_LOST = (
    "Every cycle has one cause, and they add up. Vectors: ideal, ragged tiles, depthwise (column feeds",
    "use a part of the rows) and pools. No vector: before the first one, while the array waits, and",
    "behind the last one.",
)


def _section(
    title: str, lines: Sequence[str], after: Sequence[str] = (), before: Sequence[str] = ()
) -> list[str]:
    """Return a section, or nothing if it has no lines."""
    if not lines:
        return []
    parts = [part for part in (before, lines, after) if part]
    return [f"## {title}", "", *(line for part in parts for line in (*part, ""))]


def _main(figures: Sequence[Figures]) -> list[Figures]:
    """Return the figures of the machines that are reported in full, or all if there are none."""
    main = [figure for figure in figures if figure.config in targets.CYCLES]
    return main or list(figures)


def networks(figures: Sequence[Figures]) -> list[str]:
    """Return the table of cycles, or nothing without figures."""
    rows = [
        [
            figure.model,
            f"`{figure.config}`",
            f"{figure.cycles:,}",
            f"{target:,}" if (target := targets.cycles_of(figure.config, figure.model)) else "",
            f"{100 * figure.utilization:.1f} %",
            f"{figure.cycles / figure.ideal:.2f}",
            f"{figure.ethos_cycles:,}" if figure.ethos_cycles else "",
            f"{figure.ethos_cycles / figure.cycles:.2f}" if figure.ethos_cycles else "",
            f"{figure.roofline}, {100 * figure.roofline_share:.0f} %",
            f"{figure.read_bytes:,}",
            f"{figure.write_bytes:,}",
        ]
        for figure in figures
    ]
    header = [
        "network", "configuration", "cycles", "target", "multipliers busy", "of ideal", "Ethos-U55",
        "faster by", "roofline", "bytes read", "bytes written",
    ]  # fmt: skip
    return table(header, rows) if rows else []


def scaling(figures: Sequence[Figures]) -> list[str]:
    """Return the table of networks by array and port, or nothing if there is one machine only.

    A deep pipeline makes no machine of its own.
    """
    figures = [figure for figure in figures if not figure.config.endswith(DEEP)]
    machines = sorted({(figure.multipliers, figure.port_bytes) for figure in figures})
    if len(machines) < 2:
        return []
    cells = {
        (figure.model, figure.multipliers, figure.port_bytes): (
            f"{figure.cycles:,} ({100 * figure.utilization:.0f} %)"
        )
        for figure in figures
    }
    models = dict.fromkeys(figure.model for figure in figures)
    rows = [
        [model, *(cells.get((model, *machine), "") for machine in machines)] for model in models
    ]
    header = ["network", *(f"{macs:,} x {port} B" for macs, port in machines)]
    return table(header, rows, text=1)


def tools(figures: Sequence[Figures]) -> list[str]:
    """Return the table of the cost model's errors and of times."""
    if not figures:
        return []
    rows = [
        [
            figure.model,
            f"`{figure.config}`",
            f"{figure.predicted:,}",
            f"{100 * figure.prediction_error:+.2f} %",
            f"{100 * figure.worst_layer_error:+.1f} %",
            f"{figure.compile_seconds:.1f}",
            f"{figure.simulated_per_second / 1000:.0f}",
        ]
        for figure in figures
    ]
    errors = [abs(figure.prediction_error) for figure in figures]
    layer = max(abs(figure.worst_layer_error) for figure in figures)
    header = [
        "network", "configuration", "predicted cycles", "error", "worst layer", "compile s",
        "simulated kcycles/s",
    ]  # fmt: skip
    summary = (
        f"Error of the cost model: {100 * sum(errors) / len(errors):.2f} % in the mean, "
        f"{100 * max(errors):.2f} % at worst, {100 * layer:.1f} % in the worst layer."
    )
    return [*table(header, rows), "", summary]


def lost(figures: Sequence[Figures]) -> list[str]:
    """Return the table of cycles by cause."""
    rows = [
        [
            figure.model,
            f"`{figure.config}`",
            *(f"{figure.lost[cause]:,}" for cause in lost_cycles.CAUSES),
            f"{figure.cycles:,}",
        ]
        for figure in figures
    ]
    return table(["network", "configuration", *lost_cycles.CAUSES, "cycles"], rows) if rows else []


def summary(figures: Sequence[Figures]) -> list[str]:
    """Return the short table for the front page."""
    rows = [
        [
            figure.model,
            f"`{figure.config}`",
            f"{figure.cycles:,}",
            f"{100 * figure.utilization:.1f} %",
            f"{100 * figure.roofline_share:.0f} % ({figure.roofline})",
            f"{figure.ethos_cycles / figure.cycles:.2f}" if figure.ethos_cycles else "",
            f"{100 * figure.prediction_error:+.2f} %",
        ]
        for figure in _main(figures)
    ]
    header = [
        "network", "configuration", "cycles", "multipliers busy", "of its bound", "faster than Ethos-U55 by",
        "cost model's error",
    ]  # fmt: skip
    return table(header, rows)
