"""What protection costs: flip-flops, multipliers and bits of memory, as yosys counts them."""

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from systolith.arch.config import PROTECTIONS, AcceleratorConfig
from systolith.arch.errors import ToolchainError
from systolith.boards.tools import run_tool

_SCRIPT = "read_rtlil design.il; hierarchy -top top; proc; flatten; opt; opt_clean; tee -q -o stat.txt stat -width"
_CELL = re.compile(r"^\s+(\d+)\s.*?\$(\w*dff\w*|mul)_(\d+)$", re.MULTILINE)
_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Cost:
    """Flip-flops and multipliers of a design."""

    flip_flops: int
    multipliers: int


def measure(rtlil: str) -> Cost:
    """Return what a design takes before it is mapped to a technology.

    Raises
    ------
    ToolchainError
        Yosys is missing or failed.
    """
    with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
        folder = Path(scratch)
        (folder / "design.il").write_text(rtlil, encoding="utf-8")
        run_tool("yosys", ["-q", "-p", _SCRIPT], folder=folder, seconds=_SECONDS)
        return count((folder / "stat.txt").read_text(encoding="utf-8"))


def count(report: str) -> Cost:
    """Return the cells in a report of `stat -width`."""
    flip_flops = multipliers = 0
    for number, kind, width in _CELL.findall(report):
        if kind == "mul":
            multipliers += int(number)
        else:
            flip_flops += int(number) * int(width)
    return Cost(flip_flops, multipliers)


def designs(config: AcceleratorConfig) -> dict[str, Callable[[AcceleratorConfig], Any]]:
    """Return what makes the array and the whole accelerator of a configuration."""
    try:
        from systolith.gateware.array import make_array
        from systolith.gateware.core import Core
    except ImportError as error:
        raise ToolchainError(
            f'Generating hardware needs the package "amaranth", which cannot be imported ({error}); '
            'run "make setup"'
        ) from error

    def array(config: AcceleratorConfig) -> Any:
        return make_array(
            config.multiplier,
            rows=config.rows,
            cols=config.cols,
            feeds=config.feeds,
            checked=config.protects_array,
            protected=config.protects_activations,
        )

    return {f"array {config.rows}x{config.cols}": array, f"`{config.name}`": Core}


def table(config: AcceleratorConfig) -> str:
    """Return the costs of each protection as a table of Markdown."""
    from amaranth.back import rtlil

    lines = [
        "| design | `protection` | flip-flops | more | multipliers | more |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, make in designs(config).items():
        base = None
        for protection in PROTECTIONS:
            component = make(replace(config, protection=protection))
            cost = measure(rtlil.convert(component, name="top", emit_src=False))
            base = base or cost
            lines.append(
                f"| {name} | `{protection}` | {cost.flip_flops:,} | "
                f"{cost.flip_flops / base.flip_flops - 1:.1%} | {cost.multipliers} | "
                f"{cost.multipliers / base.multipliers - 1:.1%} |"
            )
    return "\n".join(lines)
