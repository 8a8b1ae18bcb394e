"""Bus models of cocotbext-axi with latencies and stalls, and checkers on the pins; inside a simulator."""

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.simtime import get_sim_time
from cocotb.triggers import ClockCycles, Event, RisingEdge, Timer
from cocotbext.axi import (
    AxiBus,
    AxiLiteBus,
    AxiLiteMaster,
    AxiRam,
    AxiRamRead,
    AxiRamWrite,
    AxiReadBus,
    AxiWriteBus,
)

from systolith.bench.axi_checker import AxiChecker, AxiLiteChecker
from systolith.bench.axi_handshakes import FIELDS, LITE_FIELDS, Payload, Sample

PERIOD_NS = 10
MEMORY_SIZE = 1 << 22
CONTROL, MEMORY = "s_axi_control", "m_axi_gmem"
RESET_CYCLES = 8

REGISTER_READS = 3
"""Reads that the register bank takes before it answers the first: two addresses that wait, one answer."""

MODEL_CYCLES = 2
"""Cycles that the models themselves take from the handshake of an address (or of the last data) to
that of the answer, if the answer is given to them at once."""

Delay = Callable[[], int]


def cycle() -> int:
    """Return the number of clock periods since the start of the simulation."""
    return int(get_sim_time("ns")) // PERIOD_NS


class _Delayed:
    """A channel whose items can be had, or are sent, some time after they came, in order."""

    def __init__(self, channel: Any, clock: Any, delay: Delay) -> None:
        self._channel, self._clock, self._delay = channel, clock, delay
        self._items: deque[tuple[Any, int]] = deque()
        self._arrived = Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def clear(self) -> None:
        self._channel.clear()
        self._items.clear()

    async def _take_due(self) -> Any:
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        item, due = self._items[0]
        while cycle() < due:
            await RisingEdge(self._clock)
        self._items.popleft()
        return item

    def _put(self, item: Any) -> None:
        self._items.append((item, cycle() + self._delay()))
        self._arrived.set()


class DelayedSink(_Delayed):
    """Gives the items of a sink later, and takes any number meanwhile."""

    def __init__(self, channel: Any, clock: Any, delay: Delay) -> None:
        super().__init__(channel, clock, delay)
        cocotb.start_soon(self._move())

    async def _move(self) -> None:
        while True:
            self._put(await self._channel.recv())

    async def recv(self) -> Any:
        """Return the next item when it is due."""
        return await self._take_due()


class DelayedSource(_Delayed):
    """Hands items to a source later, and does not hold up the sender meanwhile."""

    def __init__(self, channel: Any, clock: Any, delay: Delay) -> None:
        super().__init__(channel, clock, delay)
        cocotb.start_soon(self._move())

    async def _move(self) -> None:
        while True:
            await self._channel.send(await self._take_due())

    async def send(self, item: Any) -> None:
        """Take an item to be sent when it is due."""
        self._put(item)


class KnownSink:
    """Gives zeros for the bits of write data that are unknown: those without strobes may be.

    The models convert whole beats to numbers; that bytes with strobes are known, the checker says.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def recv(self) -> Any:
        """Return the next beat."""
        item = await self._channel.recv()
        if not item.wdata.is_resolvable:
            item.wdata = int("".join(bit if bit in "01" else "0" for bit in str(item.wdata)), 2)
        return item


def latency(cycles: int, jitter: int = 0, seed: int = 0) -> Delay:
    """Return a delay for the models: `cycles` to `cycles + jitter` from handshake to handshake."""
    rng = random.Random(seed)
    least = max(0, cycles - MODEL_CYCLES)
    return lambda: least + (rng.randint(0, jitter) if jitter else 0)


def pauses(probability: float, seed: int) -> Iterator[bool]:
    """Yield, for each cycle, whether a channel stalls."""
    rng = random.Random(seed)
    while True:
        yield rng.random() < probability


def set_stalls(models: Sequence[Any], stalls: Mapping[str, float], prefix: str, seed: int) -> None:
    """Let the channels of models stall.

    Parameters
    ----------
    models : sequence
        Read and write models of cocotbext-axi.
    stalls : mapping of str to float
        Probability by name of the channel, which begins with `prefix`.
    prefix : str
        What distinguishes the buses of a block.
    seed : int
        Seed of all of them.
    """
    for model in models:
        for number, channel in enumerate(("ar", "r", "aw", "w", "b")):
            probability = stalls.get(prefix + channel, 0.0)
            found = getattr(model, f"{channel}_channel", None)
            if probability and found is not None:
                # Each channel has a source of its own, so that none repeats another's stalls.
                found.set_pause_generator(pauses(probability, seed * 8 + number))


def attach_memory(dut: Any, delay: Delay, channels: Sequence[str]) -> Any:
    """Return cocotbext-axi's memory on the channels that a block has, with a latency.

    The result has `read`, `write` (of bytes), and `read_if`, `write_if`, None for what is absent.
    """
    options = {"reset_active_level": False, "size": MEMORY_SIZE}
    pins = dut.ap_clk, dut.ap_rst_n
    reads = writes = None
    if "ar" in channels and "aw" in channels:
        memory = AxiRam(AxiBus.from_prefix(dut, MEMORY), *pins, **options)
        reads, writes = memory.read_if, memory.write_if
    elif "ar" in channels:
        memory = reads = AxiRamRead(AxiReadBus.from_prefix(dut, MEMORY), *pins, **options)
    else:
        memory = writes = AxiRamWrite(AxiWriteBus.from_prefix(dut, MEMORY), *pins, **options)
    if reads is not None:
        reads.log.setLevel("WARNING")
        reads.ar_channel = DelayedSink(reads.ar_channel, dut.ap_clk, delay)
    if writes is not None:
        writes.log.setLevel("WARNING")
        # Any number of addresses is taken, so that what limits the bursts in flight is the master.
        writes.aw_channel = DelayedSink(writes.aw_channel, dut.ap_clk, lambda: 0)
        writes.w_channel = KnownSink(writes.w_channel)
        writes.b_channel = DelayedSource(writes.b_channel, dut.ap_clk, delay)
    memory.read_if, memory.write_if = reads, writes
    return memory


def attach_host(dut: Any) -> Any:
    """Return cocotbext-axi's master on the registers."""
    bus = AxiLiteBus.from_prefix(dut, CONTROL)
    master = AxiLiteMaster(bus, dut.ap_clk, dut.ap_rst_n, reset_active_level=False)
    for model in (master.write_if, master.read_if):
        model.log.setLevel("WARNING")
    return master


async def reset(dut: Any) -> None:
    """Start the clock and reset the block."""
    dut.ap_rst_n.value = 0
    # So that the first edge sees the reset.
    await Timer(PERIOD_NS, "ns")
    Clock(dut.ap_clk, PERIOD_NS, unit="ns").start()
    await ClockCycles(dut.ap_clk, RESET_CYCLES)
    dut.ap_rst_n.value = 1
    await ClockCycles(dut.ap_clk, 4)


def known(handle: Any) -> int | None:
    """Return the value of a pin, or None if a bit of it is X or Z."""
    try:
        return int(handle.value)
    except ValueError:
        return None


class _Channel:
    """The pins of one channel."""

    def __init__(self, dut: Any, prefix: str, name: str, fields: Sequence[str]) -> None:
        self._valid = getattr(dut, f"{prefix}_{name}valid")
        self._ready = getattr(dut, f"{prefix}_{name}ready")
        self._fields = [getattr(dut, f"{prefix}_{name}{field}", None) for field in fields]
        self._strobe = getattr(dut, f"{prefix}_{name}strb", None)
        self._nothing: Payload = (0,) * len(self._fields)

    def sample(self) -> Sample:
        """Return what the channel shows; pins that a block leaves out are zero."""
        valid, ready = known(self._valid), known(self._ready)
        if not valid:
            return valid, ready, self._nothing
        payload = tuple(0 if pin is None else known(pin) for pin in self._fields)
        if self._strobe is not None and payload[0] is None:
            payload = (self._strobed(), *payload[1:])
        return valid, ready, payload

    def _strobed(self) -> int | None:
        """Return the bytes that are written, zeros elsewhere; None if one of them is unknown."""
        data, strobes = (str(pin.value) for pin in self._fields[:2] if pin is not None)
        lanes = [data[8 * n : 8 * n + 8] for n in range(len(strobes))]
        text = "".join(
            "0" * 8 if strobe == "0" else lane for lane, strobe in zip(lanes, strobes, strict=True)
        )
        return int(text, 2) if set(text) <= {"0", "1"} else None


class Monitor:
    """Samples the pins at each clock edge for a checker.

    Parameters
    ----------
    dut
        The block.
    prefix : str
        Of the pins of the bus.
    checker : AxiChecker or AxiLiteChecker
        Who judges.
    channels : sequence of str, optional
        Channels that the block has; by default, all.
    """

    def __init__(
        self,
        dut: Any,
        prefix: str,
        checker: AxiChecker | AxiLiteChecker,
        channels: Sequence[str] = tuple(FIELDS),
    ) -> None:
        self.checker = checker
        fields = LITE_FIELDS if isinstance(checker, AxiLiteChecker) else FIELDS
        self._channels = {c: _Channel(dut, prefix, c, fields[c]) for c in channels}
        self._dut = dut
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self._dut.ap_clk)
        while True:
            await edge
            released = known(self._dut.ap_rst_n)
            if released is None:
                continue
            samples = {name: channel.sample() for name, channel in self._channels.items()}
            self.checker.step(samples, reset=not released)
            assert not self.checker.violations, str(self.checker.violations[0])

    def finish(self) -> None:
        """Judge the end; nothing may be in flight or broken."""
        self.checker.finish()
        assert not self.checker.violations, str(self.checker.violations[0])


class UnknownMonitor:
    """Fails on the first cycle after reset in which an output is X or Z.

    Parameters
    ----------
    dut
        The block.
    outputs : mapping of str to str
        Names of the pins to look at, and of the pin while which is high they must be known; without
        a name, they must be known always.
    """

    def __init__(self, dut: Any, outputs: Mapping[str, str]) -> None:
        self.samples = 0
        self._dut = dut
        self._outputs = [
            (name, getattr(dut, name), getattr(dut, gate) if gate else None)
            for name, gate in outputs.items()
        ]
        if outputs:
            cocotb.start_soon(self._run())

    async def _run(self) -> None:
        edge = RisingEdge(self._dut.ap_clk)
        await RisingEdge(self._dut.ap_rst_n)
        while True:
            await edge
            for name, pin, gate in self._outputs:
                if gate is None or gate.value:
                    assert known(pin) is not None, f"{name} is {pin.value} in cycle {cycle()}"
                    self.samples += 1
