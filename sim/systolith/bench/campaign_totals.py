"""Totals of the random campaigns, kept in a file that grows with each run, and shown in the docs.

A campaign continues where it last stopped: with the next seed. What it counted is kept by hardware
configuration; when the generated Verilog changes, the totals stay and the count on the present
hardware starts again.

    python -m systolith.bench.campaign_totals
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from systolith.arch.blocks import rewrite_block
from systolith.arch.config import AcceleratorConfig
from systolith.bench.rtl import build

TOTALS = Path("docs/campaigns.json")
DOCUMENT = Path("docs/VERIFICATION.md")
_BLOCK = "campaigns"
_DIGEST_DIGITS = 12
_CASES = "cases"


def hardware_key(config: AcceleratorConfig) -> str:
    """Return a short digest of the Verilog of a configuration."""
    return hashlib.sha256(build.verilog_of(config).encode()).hexdigest()[:_DIGEST_DIGITS]


@dataclass
class Entry:
    """What one campaign has counted on one configuration.

    Parameters
    ----------
    counts : dict of str to int
        Totals by name; `"cases"` is one of them.
    next : int
        First seed or batch that has not been run.
    hardware : str
        Digest of the Verilog of the last run.
    on_this_hardware : int
        Cases on that Verilog.
    failures : list of str
        One sentence each, with the command that repeats it.
    """

    counts: dict[str, int] = field(default_factory=dict)
    next: int = 0
    hardware: str = ""
    on_this_hardware: int = 0
    failures: list[str] = field(default_factory=list)


class Totals:
    """The file of totals.

    Parameters
    ----------
    path : Path
        JSON file; made by the first :meth:`save`.
    """

    def __init__(self, path: Path = TOTALS) -> None:
        self._path = path
        self._data: dict[str, dict[str, Any]] = {}
        self._read()

    def _read(self) -> None:
        if self._path.is_file():
            self._data = json.loads(self._path.read_text(encoding="utf-8"))

    def entry(self, campaign: str, config: str, hardware: str) -> Entry:
        """Return a copy of what was counted so far, the present hardware's count included."""
        entry = Entry(**json.loads(json.dumps(self._data.get(campaign, {}).get(config, {}))))
        if entry.hardware != hardware:
            entry.hardware, entry.on_this_hardware = hardware, 0
        return entry

    def entries(self, campaign: str) -> list[Entry]:
        """Return what a campaign counted, one entry for each configuration."""
        return [Entry(**values) for values in self._data.get(campaign, {}).values()]

    def add(
        self,
        campaign: str,
        config: str,
        hardware: str,
        counts: Mapping[str, int],
        *,
        following: int,
        failures: Iterable[str] = (),
        anew: bool = False,
    ) -> None:
        """Add the counts of a run, and save.

        Parameters
        ----------
        campaign, config, hardware : str
            What ran, on which configuration, of which Verilog.
        counts : mapping of str to int
            Counts of this run, `"cases"` among them.
        following : int
            First seed that the next run begins with.
        failures : iterable of str
            Cases that failed in this run.
        anew : bool
            Whether each run has the same cases, so that it replaces what was counted before.
        """
        with _lock(self._path.parent):
            # Other campaigns may have written meanwhile.
            self._read()
            entry = Entry(hardware=hardware) if anew else self.entry(campaign, config, hardware)
            for name, count in counts.items():
                entry.counts[name] = entry.counts.get(name, 0) + int(count)
            entry.next = following
            entry.on_this_hardware += int(counts[_CASES])
            entry.failures += list(failures)
            self._data.setdefault(campaign, {})[config] = vars(entry)
            text = json.dumps(self._data, indent=1, sort_keys=True)
            temporary = self._path.with_suffix(".part")
            temporary.write_text(text + "\n", encoding="utf-8")
            temporary.replace(self._path)

    def table(self) -> list[str]:
        """Return the lines of the totals as a table of Markdown."""
        lines = [
            "| campaign | on | cases | of these on the last Verilog | failures | counted |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for campaign, configs in sorted(self._data.items()):
            merged: dict[str, list[Entry]] = {}
            for config, values in sorted(configs.items()):
                group = "random configurations" if config.startswith("random-") else config
                merged.setdefault(group, []).append(Entry(**values))
            lines += [_row(campaign, group, entries) for group, entries in merged.items()]
        return lines

    def failures(self) -> list[str]:
        """Return all failures."""
        return [
            failure
            for configs in self._data.values()
            for values in configs.values()
            for failure in values["failures"]
        ]


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a folder, so that one process at a time changes the totals in it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _row(campaign: str, group: str, entries: list[Entry]) -> str:
    counts: dict[str, int] = {}
    for entry in entries:
        for name, count in entry.counts.items():
            counts[name] = counts.get(name, 0) + count
    cases = counts.pop(_CASES, 0)
    where = f"{len(entries)} {group}" if group == "random configurations" else f"`{group}`"
    last = sum(entry.on_this_hardware for entry in entries)
    failures = sum(len(entry.failures) for entry in entries)
    rest = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
    return f"| {campaign} | {where} | {cases:,} | {last:,} | {failures} | {rest} |"


def render(totals: Totals, document: Path = DOCUMENT) -> None:
    """Put the table of totals, and what failed, into its block of the document."""
    failures = [f"- {failure}" for failure in totals.failures()]
    rewrite_block(document, _BLOCK, [*totals.table(), *([""] if failures else []), *failures])


def main() -> None:
    """Render the document from the totals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--totals", type=Path, default=TOTALS)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    render(Totals(options.totals), options.document)


if __name__ == "__main__":
    main()
