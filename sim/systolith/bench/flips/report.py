"""Tables of what was counted, between their marks in the document."""

from collections import Counter
from pathlib import Path

from systolith.arch.blocks import rewrite_block
from systolith.bench.campaign_totals import Entry

from .core import End

DOCUMENT = Path("docs/VERIFICATION.md")

_BLOCK = "soft errors"

BLOCK_HEADER = """\
| block | flips | corrupting | noticed | by the checksum alone | noticed without harm | runs without flip | alarms in these |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""

CORE_HEADER = """\
| part | flips | masked | noticed | stopped otherwise | silent |
| --- | ---: | ---: | ---: | ---: | ---: |"""


def block_table(entries: dict[str, Entry]) -> str:
    """Return the table of flips in blocks; the sum is over those for which something is promised."""
    lines, total = [BLOCK_HEADER], Counter[str]()
    for name, entry in entries.items():
        counts = Counter(entry.counts)
        if "depthwise" not in name:
            # In a memory there is nothing but parity, at each level.
            alone = counts.get("of these by the checksum", counts["of these noticed"])
            total += counts
            total["alone"] += alone
        lines.append(_block_row(name, counts))
    total["of these by the checksum"] = total.pop("alone", 0)
    lines.append(_block_row("all but depthwise", total))
    return "\n".join(lines)


def _block_row(name: str, counts: Counter[str]) -> str:
    corrupting = counts["corrupting"]

    def share(key: str) -> str:
        value = counts[key]
        return f"{value:,} ({value / corrupting:.3%})" if corrupting else "-"

    checksum = share("of these by the checksum") if "of these by the checksum" in counts else "-"
    return (
        f"| {name} | {counts['cases']:,} | {corrupting:,} | {share('of these noticed')} | "
        f"{checksum} | {counts['noticed without harm']:,} | {counts['runs without flip']:,} | {counts['false alarms']} |"
    )


def core_table(entry: Entry) -> str:
    """Return the table of flips in the whole accelerator, by part and end."""
    parts = sorted({key.split(": ")[0] for key in entry.counts if ": " in key})
    lines, total = [CORE_HEADER], Counter[str]()
    for part in parts:
        counts = Counter[str]({end: entry.counts.get(f"{part}: {end}", 0) for end in End})
        total += counts
        lines.append(_core_row(part, counts))
    return "\n".join([*lines, _core_row("all", total)])


def _core_row(name: str, counts: Counter[str]) -> str:
    cells = [f"{counts[end]:,}" for end in (End.MASKED, End.NOTICED, End.STOPPED, End.SILENT)]
    return f"| {name} | {sum(counts.values()):,} | {' | '.join(cells)} |"


def render(tables: list[str], failures: list[str], document: Path) -> None:
    """Put tables and failures into their block of the document."""
    parts = [*tables, *(f"- {failure}" for failure in failures)]
    rewrite_block(document, _BLOCK, "\n\n".join(parts).split("\n"))
