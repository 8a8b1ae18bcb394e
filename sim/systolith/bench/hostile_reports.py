"""What the hardware reports of a hostile stream, against the golden machine.

In a stream whose instructions wait for everything before them, the first fault is that of program order,
with these exceptions: the sequencer looks ahead, so it may find a bad word behind a fault that no
engine has come to; of several faults of one instruction any may be reported, which is why addresses of
EXECUTE and DRAIN, which have several operands, are not compared; and only hardware has a watchdog.
Streams with other waits are not compared.
"""

import numpy as np

from systolith.arch import csr, isa
from systolith.arch.csr import Fault
from systolith.arch.isa import Engine
from systolith.bench.hostile import Batch
from systolith.bench.rtl.jobs import Jobs
from systolith.golden.machine import Machine, MachineFault, Region

_WAITS = 0xFFFFFFFF << 8
_CODE = 0
_ADDR = (1 << 64) - 1

Report = tuple[Fault, Engine, int, int] | None
"""Code, engine, index and address of a fault."""


def report_of(outcome: np.void) -> Report:
    """Return what the hardware reports at the end of a job."""
    word = int(outcome["fault"])
    if not word:
        return None
    return (
        Fault(csr.field_value("fault", "code", word)),
        Engine(csr.field_value("fault", "engine", word)),
        int(outcome["fault_index"]),
        int(outcome["fault_addr"]),
    )


def in_order(code: bytes) -> bool:
    """Return whether each instruction waits for all before it; words that are none need not."""
    words = isa_words(code)
    known = set(isa.INSTRUCTIONS) - {isa.Opcode.HALT}
    return not any(word & _WAITS for word in words if word & 0xFF in known)


def isa_words(code: bytes) -> list[int]:
    """Return the words of a program."""
    size = isa.INSTRUCTION_BYTES
    return [int.from_bytes(code[n : n + size], "little") for n in range(0, len(code), size)]


class Oracle:
    """Golden's opinion on the streams of a batch.

    Parameters
    ----------
    batch : Batch
        The streams and their regions.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        table, extents = batch.table, batch.table.extents(batch.config)
        self._regions = [
            Region(data[: extents[n].size], table.base[n], table.read[n], table.write[n])
            for n, data in enumerate(region.data for region in batch.regions())
        ]

    def contradiction(self, index: int, outcome: np.void) -> str | None:
        """Return what the hardware reports of a stream that cannot be, or None."""
        code, count = self._batch.streams[index]
        size = self._batch.table.size[_CODE]
        code = code[:size].ljust(size, b"\0")[: count * isa.INSTRUCTION_BYTES]
        found = report_of(outcome)
        if not in_order(code) or (found and found[0] is Fault.WATCHDOG):
            return None
        wanted = self._run(code)
        if found == wanted or self._may_be(code, found, wanted):
            return None
        return f"stream {index} reports {_text(found)} where golden reports {_text(wanted)}"

    def _run(self, code: bytes) -> Report:
        regions = [
            Region(r.data.copy(), r.base, r.read, r.write) if r.write else r for r in self._regions
        ]
        try:
            Machine(self._batch.config).run(code, regions, code_addr=regions[_CODE].base)
        except MachineFault as fault:
            return fault.code, fault.engine, fault.index, fault.addr & _ADDR
        return None

    def _may_be(self, code: bytes, found: Report, wanted: Report) -> bool:
        """Return whether a report is one of the exceptions."""
        if found is None or wanted is None:
            return False
        if found[1] is Engine.SEQUENCER:
            words = isa_words(code)
            ahead = wanted[2] <= found[2] < len(words) and wanted[1] is not Engine.SEQUENCER
            return ahead and self._refused(words[found[2]]) == (found[0], found[3])
        several = found[0] != wanted[0] or found[1] in (Engine.EXECUTE, Engine.DRAIN)
        return found[1:3] == wanted[1:3] and several

    def _refused(self, word: int) -> tuple[Fault, int] | None:
        """Return why a word is no instruction of this machine."""
        try:
            Machine(self._batch.config).run(word.to_bytes(isa.INSTRUCTION_BYTES, "little"), [])
        except MachineFault as fault:
            return fault.code, fault.addr
        return None


def contradictions(batch: Batch, outcomes: Jobs) -> list[str]:
    """Return what the hardware reports of the streams of a batch that cannot be."""
    oracle = Oracle(batch)
    found = (oracle.contradiction(index, row) for index, row in enumerate(outcomes))
    return [text for text in found if text]


def _text(report: Report) -> str:
    if report is None:
        return "no fault"
    code, engine, index, addr = report
    return f"{code.name} of {engine.name} at instruction {index}, address {addr:#x}"
