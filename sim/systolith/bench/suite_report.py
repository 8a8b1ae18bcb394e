"""The figures of the suite as Markdown."""

from collections.abc import Sequence

from systolith.bench import ethos_u55, lost_cycles
from systolith.bench.suite import LARGE_LAYER, Figures

BEGIN, END = "<!-- results -->", "<!-- /results -->"
"""Marks around a block of a document that is generated."""


def document(figures: Sequence[Figures]) -> str:
    """Return the whole document."""
    samples = min(figure.samples for figure in figures)
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
            "## Networks",
            "",
            *networks(figures),
            "",
            f"Ideal: every multiplier busy in every cycle. Ethos-U55: {ethos_u55.SOURCE}, with as many",
            "multipliers. Roofline: the larger of multiplications by multipliers and DRAM bytes by port",
            "width, as a share of the cycles.",
            "",
            "## Cost model and tools",
            "",
            *tools(figures),
            "",
            "Seconds are processor time, on the machine that wrote this. The cost model",
            "(`systolith.compiler.cost`) sees the program and no simulation; the layer is the worst of those",
            f"above {LARGE_LAYER:,} cycles.",
            "",
            "## Lost cycles",
            "",
            "Every cycle has one cause, and they add up. Vectors: ideal, ragged tiles, depthwise (column feeds",
            "use a part of the rows) and pools. No vector: before the first one, while the array waits, and",
            "behind the last one.",
            "",
            *lost(figures),
            "",
        ]
    )


def networks(figures: Sequence[Figures]) -> list[str]:
    """Return the table of cycles."""
    rows = [
        [
            figure.model,
            f"`{figure.config}`",
            f"{figure.cycles:,}",
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
        "network", "configuration", "cycles", "multipliers busy", "of ideal", "Ethos-U55", "faster by",
        "roofline", "bytes read", "bytes written",
    ]  # fmt: skip
    return _table(header, rows)


def tools(figures: Sequence[Figures]) -> list[str]:
    """Return the table of the cost model's errors and of times."""
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
    mean = sum(abs(figure.prediction_error) for figure in figures) / len(figures)
    header = [
        "network", "configuration", "predicted cycles", "error", "worst layer", "compile s",
        "simulated kcycles/s",
    ]  # fmt: skip
    return [*_table(header, rows), "", f"Mean error of the cost model: {100 * mean:.2f} %."]


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
    return _table(["network", "configuration", *lost_cycles.CAUSES, "cycles"], rows)


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
        for figure in figures
    ]
    header = [
        "network", "configuration", "cycles", "multipliers busy", "of its bound", "faster than Ethos-U55 by",
        "cost model's error",
    ]  # fmt: skip
    return _table(header, rows)


def replace_block(text: str, lines: Sequence[str]) -> str:
    """Return a document with other lines between its marks.

    Raises
    ------
    ValueError
        It has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"Document must have marks {BEGIN} and {END}")
    return "\n".join([before + BEGIN, *lines, END + after])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    aligned = ["---", "---", *["---:"] * (len(header) - 2)]
    return [f"| {' | '.join(row)} |" for row in (header, aligned, *rows)]
