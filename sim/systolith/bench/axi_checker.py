"""Passive checkers of AXI4 and AXI4-Lite: what they see of the pins in each cycle, they judge.

They know no simulator: whoever has a waveform, of cocotb or of a test, gives one sample per channel and
clock edge. Samples and rules are those of :mod:`systolith.bench.axi_handshakes`.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from systolith.bench.axi_handshakes import FIELDS, LITE_FIELDS, Handshakes, Payload, Sample, text

BOUNDARY_BYTES = 4096
INCR = 0b01
EXOKAY = 0b01
_BYTE_BITS = 8


@dataclass(frozen=True)
class Window:
    """Bytes that may be touched.

    Parameters
    ----------
    addr, size : int
        First byte, and bytes.
    read, write : bool
        What is permitted.
    """

    addr: int
    size: int
    read: bool
    write: bool


@dataclass(frozen=True)
class Limits:
    """What a master promises beyond AXI4.

    Parameters
    ----------
    beats : int
        Beats of the longest burst.
    reads, writes : int
        Bursts in flight.
    attributes : tuple of int
        Values of ID, lock, cache, protection, quality and region.
    """

    beats: int = 16
    reads: int = 16
    writes: int = 16
    attributes: tuple[int, ...] = (0, 0, 0b0011, 0, 0, 0)


@dataclass(slots=True)
class _Burst:
    """A burst that was offered, and the beats of it that were transferred."""

    addr: int
    beats: int
    id: int
    done: int = 0


class AxiChecker(Handshakes):
    """Judge AXI4 between a master with one ID, which is ours, and its memory.

    Parameters
    ----------
    data_bits : int
        Width of the bus.
    limits : Limits
        What the master promises.
    windows : sequence of Window
        What the master may touch; None permits everything. May be assigned between bursts.

    Attributes
    ----------
    violations : list of Violation
        What was found, in order.
    transfers : dict of str to int
        Transfers of each channel.
    reads, writes : int
        Bursts that were answered.
    most_reads, most_writes : int
        The most bursts that were unanswered at once.
    """

    def __init__(
        self,
        *,
        data_bits: int,
        limits: Limits | None = None,
        windows: Sequence[Window] | None = None,
    ) -> None:
        super().__init__(FIELDS)
        self.windows = windows
        self.reads = self.writes = self.most_reads = self.most_writes = 0
        self._limits = limits or Limits()
        self._beat_bytes = data_bits // _BYTE_BITS
        self._reads: deque[_Burst] = deque()
        self._offered: deque[_Burst] = deque()  # writes whose data has not come
        self._writes: deque[_Burst] = deque()  # transferred addresses without a response
        self._complete = 0  # writes whose last beat came, without a response

    def step(self, samples: Mapping[str, Sample], *, reset: bool) -> None:
        """Judge one clock edge.

        Parameters
        ----------
        samples : mapping of str to Sample
            What each channel shows just before the edge; channels that do not exist are left out.
        reset : bool
            Whether reset is active at this edge.
        """
        if reset:
            self.check_reset(samples)
            self._reads.clear()
            self._offered.clear()
            self._writes.clear()
            self._complete = 0
        else:
            # Answers first: none may answer what is transferred in the same cycle.
            for channel, judge in (
                ("r", self._step_r),
                ("b", self._step_b),
                ("ar", self._step_ar),
                ("aw", self._step_aw),
                ("w", self._step_w),
            ):
                if channel in samples:
                    judge(samples[channel])
            self.was_reset = False
        self.cycle += 1

    def finish(self) -> None:
        """Judge the end: nothing may be in flight."""
        self.check_offered()
        for channel, waiting in (("r", self._reads), ("b", self._writes), ("w", self._offered)):
            if waiting:
                self.violate(channel, "unfinished", f"{len(waiting)} bursts, first {waiting[0]}")

    def _step_ar(self, sample: Sample) -> None:
        offered, transferred = self.transfer("ar", sample)
        if offered:
            self._judge_burst("ar", sample[2])
        if transferred:
            self._reads.append(_burst_of(sample[2]))
            self.most_reads = max(self.most_reads, len(self._reads))
            if len(self._reads) > self._limits.reads:
                self.violate("ar", "read limit", f"{len(self._reads)} are unanswered")

    def _step_r(self, sample: Sample) -> None:
        offered, transferred = self.transfer("r", sample)
        if not offered and not transferred:
            return
        if not self._reads:
            self.violate("r", "unasked read", "no read is unanswered")
            return
        burst = self._reads[0]
        last = burst.done + 1 == burst.beats
        if offered:
            ident, _, response, marked = sample[2]
            self._judge_answer("r", ident, response, burst)
            if marked != last:
                place = f"beat {burst.done + 1} of {burst.beats}"
                self.violate("r", "rlast", f"RLAST is {text(marked)} on {place}")
        if transferred:
            burst.done += 1
            if last:
                self._reads.popleft()
                self.reads += 1

    def _step_aw(self, sample: Sample) -> None:
        offered, transferred = self.transfer("aw", sample)
        if offered:
            self._judge_burst("aw", sample[2])
            self._offered.append(_burst_of(sample[2]))
        if transferred:
            self._writes.append(_burst_of(sample[2]))
            self.most_writes = max(self.most_writes, len(self._writes))
            if len(self._writes) > self._limits.writes:
                self.violate("aw", "write limit", f"{len(self._writes)} are unanswered")

    def _step_w(self, sample: Sample) -> None:
        offered, transferred = self.transfer("w", sample)
        if not offered and not transferred:
            return
        if not self._offered:
            self.violate("w", "early data", "no address was offered that wants data")
            return
        burst = self._offered[0]
        last = burst.done + 1 == burst.beats
        if offered:
            _, strobes, marked = sample[2]
            if marked != last:
                place = f"beat {burst.done + 1} of {burst.beats}"
                self.violate("w", "wlast", f"WLAST is {text(marked)} on {place}")
            self._judge_written(burst.addr + burst.done * self._beat_bytes, strobes or 0)
        if transferred:
            burst.done += 1
            if last:
                self._offered.popleft()
                self._complete += 1

    def _step_b(self, sample: Sample) -> None:
        offered, transferred = self.transfer("b", sample)
        if not offered and not transferred:
            return
        if not self._writes or not self._complete:
            self.violate("b", "unasked response", "no write is complete and unanswered")
            return
        if offered:
            ident, response = sample[2]
            self._judge_answer("b", ident, response, self._writes[0])
        if transferred:
            self._writes.popleft()
            self._complete -= 1
            self.writes += 1

    def _judge_answer(
        self, channel: str, ident: int | None, response: int | None, burst: _Burst
    ) -> None:
        if ident != burst.id:
            self.violate(channel, "id", f"{text(ident)} answers {burst.id}")
        if response == EXOKAY:
            self.violate(channel, "response", "it is EXOKAY")

    def _judge_burst(self, channel: str, payload: Payload) -> None:
        ident, addr, length, size, kind, *rest = (-1 if v is None else v for v in payload)
        beats, beat_bytes = length + 1, self._beat_bytes
        end = addr + beats * beat_bytes
        if beats > self._limits.beats:
            self.violate(channel, "length", f"{beats} beats")
        if 1 << max(size, 0) != beat_bytes:
            self.violate(channel, "size", f"AxSIZE is {size} on {beat_bytes} bytes")
        if kind != INCR:
            self.violate(channel, "burst", f"AxBURST is {kind}")
        if addr % beat_bytes:
            self.violate(channel, "alignment", f"address {addr:#x}")
        if addr // BOUNDARY_BYTES != (end - 1) // BOUNDARY_BYTES:
            self.violate(channel, "boundary", f"{addr:#x} to {end - 1:#x}")
        if (ident, *rest) != self._limits.attributes:
            self.violate(channel, "attributes", f"{(ident, *rest)}")
        if channel == "ar":
            # Whole beats are read, so that each must have a byte that may be read.
            for beat in range(addr, end, beat_bytes):
                if not self._permitted(beat, beat + beat_bytes, write=False):
                    self.violate(channel, "window", f"beat at {beat:#x}")

    def _judge_written(self, addr: int, strobes: int) -> None:
        if self.windows is None:
            return
        for lane in _set_bits(strobes):
            if not self._permitted(addr + lane, addr + lane + 1, write=True):
                self.violate("w", "window", f"byte at {addr + lane:#x}")

    def _permitted(self, begin: int, end: int, *, write: bool) -> bool:
        if self.windows is None:
            return True
        return any(
            (w.write if write else w.read) and begin < w.addr + w.size and w.addr < end
            for w in self.windows
        )


class AxiLiteChecker(Handshakes):
    """Judge AXI4-Lite between a master and our slave.

    Parameters
    ----------
    reads, writes : int
        Accesses of a kind that the slave takes before it answers the first.

    Attributes
    ----------
    violations, transfers, reads, writes :
        As of :class:`AxiChecker`.
    """

    def __init__(self, *, reads: int = 1, writes: int = 1) -> None:
        super().__init__(LITE_FIELDS)
        self.reads = self.writes = 0
        self._limits = {"ar": reads, "aw": writes, "w": writes}
        self._waiting = dict.fromkeys(("ar", "aw", "w"), 0)

    def step(self, samples: Mapping[str, Sample], *, reset: bool) -> None:
        """Judge one clock edge; see :meth:`AxiChecker.step`."""
        if reset:
            self.check_reset(samples)
            self._waiting = dict.fromkeys(self._waiting, 0)
        else:
            self.reads += self._answer("r", samples["r"], ("ar",), "unasked read")
            self.writes += self._answer("b", samples["b"], ("aw", "w"), "unasked response")
            for channel, rule in (
                ("ar", "read limit"),
                ("aw", "write limit"),
                ("w", "write limit"),
            ):
                _, transferred = self.transfer(channel, samples[channel])
                self._waiting[channel] += transferred
                if transferred and self._waiting[channel] > self._limits[channel]:
                    self.violate(channel, rule, f"{self._waiting[channel]} are unanswered")
            self.was_reset = False
        self.cycle += 1

    def finish(self) -> None:
        """Judge the end: nothing may be in flight."""
        self.check_offered()
        for channel, waiting in self._waiting.items():
            if waiting:
                self.violate(channel, "unfinished", f"{waiting} transfers without an answer")

    def _answer(self, channel: str, sample: Sample, asked: tuple[str, ...], rule: str) -> int:
        """Check an answer; return how many it completes."""
        offered, transferred = self.transfer(channel, sample)
        if offered and not all(self._waiting[name] for name in asked):
            self.violate(channel, rule, "nothing is unanswered")
            return 0
        if offered and sample[2][-1] == EXOKAY:
            self.violate(channel, "response", "it is EXOKAY")
        if transferred:
            for name in asked:
                self._waiting[name] = max(0, self._waiting[name] - 1)
        return int(transferred)


def _burst_of(payload: Payload) -> _Burst:
    ident, addr, length = (v or 0 for v in payload[:3])
    return _Burst(addr, length + 1, ident)


def _set_bits(word: int) -> Iterator[int]:
    while word:
        low = word & -word
        yield low.bit_length() - 1
        word ^= low
