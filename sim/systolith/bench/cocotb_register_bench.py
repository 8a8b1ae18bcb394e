"""Bench of the register bank: accesses in both directions at once, commands, events."""

import cocotb
from cocotb.triggers import RisingEdge

from systolith.arch import csr
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Access
from systolith.bench.cocotb_bench import Bench
from systolith.bench.cocotb_blocks import state_value
from systolith.gateware.csr_bank import writable_mask


class _Registers:
    """What the registers hold."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._constants = csr.constants(config)
        self.settings = {r.addr: r.reset for r in csr.REGISTERS if r.access is Access.RW}

    def value(self, register: csr.Register) -> int:
        if register.access is Access.RO:
            return self._constants.get(register.name, state_value(register.name))
        return self.settings.get(register.addr, 0)

    def write(self, register: csr.Register, offset: int, data: bytes) -> None:
        old = self.settings[register.addr].to_bytes(4, "little")
        new = old[:offset] + data + old[offset + len(data) :]
        self.settings[register.addr] = int.from_bytes(new, "little") & writable_mask(register)


_UNDECLARED = sorted(set(range(0, 1 << csr.ADDR_BITS, 4)) - {r.addr for r in csr.REGISTERS})
_READ_WRITE = [r for r in csr.REGISTERS if r.access is Access.RW]
_EVENTS = 0b11


async def registers(bench: Bench) -> None:
    """Write and read registers at the same time, pulse commands, raise and clear events."""
    dut, rng = bench.dut, bench.rng
    model = _Registers(bench.config)
    dut.busy.value = dut.events.value = 0
    commands: list[int] = []

    async def record() -> None:
        while True:
            await RisingEdge(dut.ap_clk)
            if dut.command.value:
                commands.append(int(dut.command.value))

    await bench.start()
    cocotb.start_soon(record())
    while bench.goes_on:
        count = 4 if bench.point.slow else 24
        dut.busy.value = busy = int(rng.random() < 0.2)
        order = rng.sample(_READ_WRITE, len(_READ_WRITE))
        written, others = order[: len(order) // 2], order[len(order) // 2 :]
        others += [r for r in csr.REGISTERS if r.access is Access.RO]
        writer = cocotb.start_soon(_write_some(bench, model, written, count, busy))
        await _read_some(bench, model, rng.choices(others, k=count))
        await writer
        await _read_some(bench, model, rng.sample(written, min(count, len(written))))
        await _check_events(bench, model)
        await _check_commands(bench, commands)


async def _write_some(
    bench: Bench, model: _Registers, targets: list[csr.Register], count: int, busy: int
) -> None:
    """Write parts of registers, and where there is none, several at once."""
    events = []
    for _ in range(count):
        register, offset = bench.rng.choice(targets), bench.rng.randrange(4)
        data = bench.rng.randbytes(bench.rng.randint(1, 4 - offset))
        if bench.rng.random() < 0.1:
            addr = bench.rng.choice(_UNDECLARED)
        else:
            addr = register.addr
            if not busy:
                model.write(register, offset, data)
        events.append(bench.master.init_write(addr + offset, data))
    for event in events:
        await event.wait()


async def _read_some(bench: Bench, model: _Registers, targets: list[csr.Register]) -> None:
    events = [(bench.master.init_read(r.addr, 4), r.name, model.value(r)) for r in targets]
    events.append((bench.master.init_read(bench.rng.choice(_UNDECLARED), 4), "undeclared", 0))
    for event, name, expected in events:
        await event.wait()
        got = int.from_bytes(event.data.data, "little")
        assert got == expected, f"{name} is {got:#x}, not {expected:#x}"


async def _check_events(bench: Bench, model: _Registers) -> None:
    """Raise events, see them and the interrupt, and clear them one by one."""
    dut, master = bench.dut, bench.master
    status = csr.BY_NAME["irq_status"].addr
    enabled = model.value(csr.BY_NAME["irq_enable"])
    dut.events.value = raised = bench.rng.randint(0, _EVENTS)
    await RisingEdge(dut.ap_clk)
    dut.events.value = 0
    assert await master.read_dword(status) == raised
    assert bool(dut.interrupt.value) == bool(raised & enabled)
    for bit in (1, 2):
        await master.write_dword(status, bit)
        raised &= ~bit
        assert await master.read_dword(status) == raised
        assert bool(dut.interrupt.value) == bool(raised & enabled)


async def _check_commands(bench: Bench, commands: list[int]) -> None:
    """Give commands; each must come once, and zeros must do nothing."""
    asked = [bench.rng.randint(0, _EVENTS) for _ in range(3)]
    for value in asked:
        await bench.master.write_dword(csr.BY_NAME["control"].addr, value)
    assert await bench.master.read_dword(csr.BY_NAME["control"].addr) == 0
    assert commands == [value for value in asked if value]
    commands.clear()
