"""Reports of programs and runs: as a dictionary for files, and as one page of text."""

from collections.abc import Mapping, Sequence
from typing import Any

from systolith.api import Profile
from systolith.arch.program import AcceleratorSegment, Program

_LABEL_WIDTH = 34
_NAME_WIDTH = 36


def run_report(program: Program, device: str, profile: Profile) -> dict[str, Any]:
    """Return the figures of a run; `cycles` and what derives from it are None if not counted."""
    first = profile.counters[0] if profile.counters else {}
    return {
        "model": program.model,
        "config": program.config.name,
        "config_digest": f"{program.config.digest:016x}",
        "array": [program.config.rows, program.config.cols],
        "device": device,
        "reference": program.reference,
        "samples": len(profile.counters),
        "cycles": profile.cycles,
        "macs": profile.macs,
        "utilization": profile.utilization,
        "dram_read_bytes": first.get("read_bytes"),
        "dram_write_bytes": first.get("write_bytes"),
        "counters": first if profile.cycles else {},
        "layers": [
            {
                "name": item.layer.name,
                "op": item.layer.op,
                "target": item.layer.target,
                "macs": item.layer.macs,
                "cycles": item.cycles,
                "utilization": item.utilization,
            }
            for item in profile.layers
        ],
    }


def program_report(program: Program) -> dict[str, Any]:
    """Return what is known of a program before it runs."""
    segments = [s for s in program.segments if isinstance(s, AcceleratorSegment)]
    return {
        "model": program.model,
        "config": program.config.name,
        "config_digest": f"{program.config.digest:016x}",
        "array": [program.config.rows, program.config.cols],
        "reference": program.reference,
        "macs": sum(layer.macs for layer in program.layers),
        "instructions": sum(s.instruction_count for s in segments),
        "code_bytes": sum(len(s.code) for s in segments),
        "constant_bytes": len(program.constants),
        "arena_bytes": max((s.arena_bytes for s in segments), default=0),
        "layers": [
            {"name": layer.name, "op": layer.op, "target": layer.target, "macs": layer.macs}
            for layer in program.layers
        ],
    }


def text(report: Mapping[str, Any]) -> str:
    """Return a report of either kind as one page."""
    lines = [f"Network summary for {report['model']}"]
    for label, value in _facts(report):
        lines.append(f"{label:<{_LABEL_WIDTH}} {value}")
    lines += ["", *_layer_table(report["layers"])]
    host = [layer["name"] for layer in report["layers"] if layer["target"] == "cpu"]
    if host:
        lines += ["", f"{len(host)} of {len(report['layers'])} operators run on the host"]
    return "\n".join(lines)


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows, cols = report["array"]
    config = f"{report['config']} ({rows} x {cols} cells, digest {report['config_digest']})"
    facts = [("Accelerator configuration", config), ("Rounding of", report["reference"])]
    if "device" in report:
        facts += [("Device", report["device"]), ("Samples", _number(report["samples"]))]
        facts += [("Cycles per inference", _cycles(report["cycles"]))]
    facts += [("Multiplications per inference", _number(report["macs"]))]
    if "device" in report:
        facts += [
            ("Array utilization", _percent(report["utilization"])),
            ("DRAM bytes read", _number(report["dram_read_bytes"])),
            ("DRAM bytes written", _number(report["dram_write_bytes"])),
        ]
    else:
        facts += [
            ("Instructions", _number(report["instructions"])),
            ("Bytes of instructions", _number(report["code_bytes"])),
            ("Bytes of weights and parameters", _number(report["constant_bytes"])),
            ("Bytes of arena in DRAM", _number(report["arena_bytes"])),
        ]
    return facts


def _layer_table(layers: Sequence[Mapping[str, Any]]) -> list[str]:
    header = (
        f"{'Layer':<{_NAME_WIDTH}} {'Operator':<18} {'Target':<6} {'MACs':>12} "
        f"{'Cycles':>10} {'Utilization':>11}"
    )
    lines = [header, "-" * len(header)]
    for layer in layers:
        lines.append(
            f"{_shorten(layer['name']):<{_NAME_WIDTH}} {layer['op']:<18} {layer['target']:<6} "
            f"{_number(layer['macs']):>12} {_number(layer.get('cycles')):>10} "
            f"{_percent(layer.get('utilization')):>11}"
        )
    return lines


def _shorten(name: str) -> str:
    """Keep the end of a long name, which is what differs between layers."""
    return name if len(name) <= _NAME_WIDTH else f"…{name[1 - _NAME_WIDTH :]}"


def _cycles(cycles: Sequence[int] | None) -> str:
    if not cycles:
        return "not counted"
    low, high = min(cycles), max(cycles)
    return _number(low) if low == high else f"{_number(low)} to {_number(high)}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
