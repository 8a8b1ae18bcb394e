"""DRAM behind an AXI4 slave for Amaranth's simulator, which also checks the master's manners."""

import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

MAX_BURST_BEATS = 16
BOUNDARY_BYTES = 4096
OKAY, EXOKAY, SLVERR, DECERR = range(4)

_INCR = 1
_CACHE = 0b0011


class AxiProtocolError(AssertionError):
    """A master broke a rule of AXI, or of the narrower use that Systolith promises."""


@dataclass(frozen=True)
class Stalls:
    """Probabilities that a channel pauses in a cycle: VALID of R and B, READY of the others."""

    ar: float = 0.0
    r: float = 0.0
    aw: float = 0.0
    w: float = 0.0
    b: float = 0.0

    @classmethod
    def uniform(cls, probability: float) -> "Stalls":
        """Return the same probability for all channels."""
        return cls(*[probability] * 5)


@dataclass
class _Burst:
    addr: int
    beats: int
    due: int
    done: int = 0
    resp: int = OKAY


@dataclass
class _Channel:
    """What a channel showed in the last cycle, to check that an offer is not withdrawn."""

    offered: bool = False
    payload: tuple[int, ...] = ()

    def check(self, name: str, valid: int, ready: bool, payload: tuple[int, ...]) -> None:
        if self.offered and (not valid or payload != self.payload):
            raise AxiProtocolError(f"{name} must stay valid and stable until it is accepted")
        self.offered = bool(valid) and not ready
        self.payload = payload


@dataclass
class AxiMemory:
    """Memory of `size` bytes at `base`, as two processes of Amaranth's simulator.

    Reads are answered in order, `latency` cycles after their address at the earliest, then one beat
    per cycle; `outstanding` of them may wait. Writes are taken at one beat per cycle and answered
    `write_latency` cycles after their last beat. Bytes outside the memory, and addresses in
    `errors`, are answered with DECERR and SLVERR.

    Parameters
    ----------
    data_bits : int
        Width of the bus.
    base, size : int
        Address and bytes of the memory.
    latency, write_latency : int
        Cycles.
    outstanding : int
        Bursts that may wait, each for reads and writes.
    stalls : Stalls
        Random pauses.
    seed : int
        Seed of the pauses.
    errors : collection of int
        Addresses whose beats (read) or bursts (write) are answered with SLVERR.

    Attributes
    ----------
    data : bytearray
        The contents.
    reads, writes : list of (int, int)
        Address and beats of each burst, in order.
    read_beats, write_beats : int
        Beats transferred.
    cycle : int
        Cycles simulated.
    """

    data_bits: int
    base: int = 0
    size: int = 1 << 16
    latency: int = 4
    write_latency: int = 2
    outstanding: int = 16
    stalls: Stalls = Stalls()
    seed: int = 0
    errors: Iterable[int] = ()
    data: bytearray = field(init=False)
    reads: list[tuple[int, int]] = field(default_factory=list, init=False)
    writes: list[tuple[int, int]] = field(default_factory=list, init=False)
    read_beats: int = field(default=0, init=False)
    write_beats: int = field(default=0, init=False)
    cycle: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.data = bytearray(self.size)
        self.beat_bytes = self.data_bits // 8
        self._random = random.Random(self.seed)
        self._errors = frozenset(addr // self.beat_bytes for addr in self.errors)
        self._read_queue: deque[_Burst] = deque()
        self._write_queue: deque[_Burst] = deque()
        self._early_beats: deque[tuple[int, int, int]] = deque()
        self._responses: deque[_Burst] = deque()
        self._channels = {name: _Channel() for name in ("ar", "aw", "w")}

    @property
    def idle(self) -> bool:
        """Whether every burst has been answered."""
        return not (self._read_queue or self._write_queue or self._early_beats or self._responses)

    def _pause(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

    def _resp(self, addr: int) -> int:
        if not self.base <= addr < self.base + self.size:
            return DECERR
        return SLVERR if addr // self.beat_bytes in self._errors else OKAY

    def _check_address(self, name: str, payload: Any) -> _Burst:
        addr, beats = payload.addr, payload.len + 1
        size = self.beat_bytes.bit_length() - 1
        rules = {
            "AxID must be 0": payload.id == 0,
            "AxBURST must be INCR": payload.burst == _INCR,
            "AxSIZE must be the full width": payload.size == size,
            "AxCACHE must be 0b0011": payload.cache == _CACHE,
            "AxPROT must be 0": payload.prot == 0,
            "AxADDR must be a multiple of the beat": addr % self.beat_bytes == 0,
            "AxLEN must be at most 15": beats <= MAX_BURST_BEATS,
            "a burst must not cross 4 KiB": (
                addr // BOUNDARY_BYTES == (addr + beats * self.beat_bytes - 1) // BOUNDARY_BYTES
            ),
        }
        for rule, kept in rules.items():
            if not kept:
                raise AxiProtocolError(f"{name}: {rule}; address {addr:#x}, {beats} beats")
        return _Burst(addr, beats, self.cycle + self.latency)

    def reader(self, ar: Any, r: Any) -> Callable[[Any], Awaitable[None]]:
        """Return the process that serves a master's `ar` and `r`, for `add_process`."""

        async def process(ctx: Any) -> None:
            await self._serve_reads(ctx, ar, r)

        return process

    def writer(self, aw: Any, w: Any, b: Any) -> Callable[[Any], Awaitable[None]]:
        """Return the process that serves a master's `aw`, `w` and `b`, for `add_process`."""

        async def process(ctx: Any) -> None:
            await self._serve_writes(ctx, aw, w, b)

        return process

    async def _serve_reads(self, ctx: Any, ar: Any, r: Any) -> None:
        ready, current = False, False
        async for _, reset, valid, payload, taken in ctx.tick().sample(ar.valid, ar.p, r.ready):
            if reset:
                continue
            self.cycle += 1
            self._channels["ar"].check("AR", valid, ready, tuple(_values(payload)))
            if valid and ready:
                burst = self._check_address("AR", payload)
                self.reads.append((burst.addr, burst.beats))
                self._read_queue.append(burst)
            if current and taken:
                current = False
                self.read_beats += 1
                head = self._read_queue[0]
                head.done += 1
                if head.done == head.beats:
                    self._read_queue.popleft()
            # An address accepted in cycle n is first answered in cycle n + latency.
            due = bool(self._read_queue) and self._read_queue[0].due <= self.cycle + 1
            if not current and due and not self._pause(self.stalls.r):
                current = True
                self._drive_read(ctx, r, self._read_queue[0])
            ctx.set(r.valid, current)
            ready = len(self._read_queue) < self.outstanding and not self._pause(self.stalls.ar)
            ctx.set(ar.ready, ready)

    def _drive_read(self, ctx: Any, r: Any, burst: _Burst) -> None:
        addr = burst.addr + burst.done * self.beat_bytes
        resp = self._resp(addr)
        start = addr - self.base
        word = self.data[start : start + self.beat_bytes] if resp == OKAY else b""
        ctx.set(r.p.data, int.from_bytes(word, "little"))
        ctx.set(r.p.resp, resp)
        ctx.set(r.p.last, burst.done == burst.beats - 1)

    async def _serve_writes(self, ctx: Any, aw: Any, w: Any, b: Any) -> None:
        aw_ready, w_ready, current = False, False, False
        samples = ctx.tick().sample(aw.valid, aw.p, w.valid, w.p, b.ready)
        cycle = 0
        async for _, reset, aw_valid, address, w_valid, beat, taken in samples:
            if reset:
                continue
            cycle += 1
            self._channels["aw"].check("AW", aw_valid, aw_ready, tuple(_values(address)))
            self._channels["w"].check("W", w_valid, w_ready, tuple(_values(beat)))
            if aw_valid and aw_ready:
                burst = self._check_address("AW", address)
                self.writes.append((burst.addr, burst.beats))
                self._write_queue.append(burst)
            if w_valid and w_ready:
                self._early_beats.append((beat.data, beat.strb, beat.last))
            while self._write_queue and self._early_beats:
                self._write_beat(*self._early_beats.popleft(), cycle)
            if current and taken:
                current = False
                self._responses.popleft()
            due = bool(self._responses) and self._responses[0].due <= cycle
            if not current and due and not self._pause(self.stalls.b):
                current = True
                ctx.set(b.p.resp, self._responses[0].resp)
            ctx.set(b.valid, current)
            waiting = len(self._write_queue) + len(self._responses)
            aw_ready = waiting < self.outstanding and not self._pause(self.stalls.aw)
            w_ready = not self._pause(self.stalls.w)
            ctx.set(aw.ready, aw_ready)
            ctx.set(w.ready, w_ready)

    def _write_beat(self, word: int, strobes: int, last: int, cycle: int) -> None:
        burst = self._write_queue[0]
        addr = burst.addr + burst.done * self.beat_bytes
        resp = self._resp(addr)
        burst.resp = burst.resp or resp
        for lane in range(self.beat_bytes):
            if strobes >> lane & 1 and resp == OKAY:
                self.data[addr - self.base + lane] = word >> (8 * lane) & 0xFF
        self.write_beats += 1
        burst.done += 1
        if bool(last) != (burst.done == burst.beats):
            raise AxiProtocolError(
                f"WLAST must mark the last of {burst.beats} beats, not beat {burst.done}, "
                f"burst at {burst.addr:#x}"
            )
        if last:
            burst.due = cycle + self.write_latency
            self._responses.append(self._write_queue.popleft())


def _values(payload: Any) -> list[int]:
    """Return the values of all fields of a sampled structure."""
    return [getattr(payload, name) for name in payload.shape().members]
