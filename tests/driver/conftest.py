"""A device that is only registers and memory, and programs that move bytes."""

import numpy as np
import pytest

from systolith.arch import csr, softmax
from systolith.arch.errors import DeviceTimeout
from systolith.arch.isa import Halt, Load, Store
from systolith.arch.program import (
    AcceleratorSegment,
    Binding,
    HostSegment,
    Layer,
    Program,
    Region,
    TensorInfo,
)


class FakeTransport:
    """A start calls a function of the test."""

    memory_base = 0x2_0000_0100
    memory_size = 1 << 20

    def __init__(self, config, on_start=None):
        self.values = {r.name: r.reset for r in csr.REGISTERS}
        self.values.update(csr.constants(config))
        self.memory = bytearray(self.memory_size)
        self.on_start = on_start
        self.writes = []
        self.aborted = False
        self.closed = False
        self.busy = False

    def read_register(self, addr):
        return self.values[self._name(addr)]

    def write_register(self, addr, value):
        assert 0 <= value < 1 << 32
        name = self._name(addr)
        if name == "irq_status":
            self.values[name] &= ~value
        elif name == "control" and csr.field_value("control", "start", value):
            self.values["status"] = csr.pack("status", busy=int(self.busy))
            if self.on_start:
                self.on_start(self)
        elif name == "control":
            self.aborted = True
            self.finish(fault=1)
        else:
            self.values[name] = value

    def finish(self, **event):
        self.values["status"] = csr.pack("status", **event)
        self.values["irq_status"] = csr.pack("irq_status", **event)

    def write_memory(self, addr, data):
        start = addr - self.memory_base
        assert 0 <= start <= start + len(data) <= self.memory_size
        self.memory[start : start + len(data)] = data
        self.writes.append((addr, len(data)))

    def read_memory(self, addr, size):
        start = addr - self.memory_base
        assert 0 <= start <= start + size <= self.memory_size
        return bytes(self.memory[start : start + size])

    def wait_interrupt(self, timeout_s):
        if not self.values["irq_status"] & self.values["irq_enable"]:
            raise DeviceTimeout(f"no interrupt within {timeout_s} s")

    def close(self):
        self.closed = True

    def region(self, number):
        """Return (base, size, read, write) as programmed."""
        v = {k: self.values[f"region{number}_{k}"] for k in ("base_lo", "base_hi", "size", "flags")}
        return v["base_lo"] | v["base_hi"] << 32, v["size"], v["flags"] & 1, v["flags"] >> 1

    @staticmethod
    def _name(addr):
        return next(r.name for r in csr.REGISTERS if r.addr == addr)


def copy_segment(source, target, size=24, *, load_region=Region.INPUT):
    """Return a segment that copies a tensor from INPUT, at offset 3, to OUTPUT, at offset 5."""
    load = Load(region=load_region, offset=3, run=size, run_step=size, total=size, segment=size)
    store = Store(
        region=Region.OUTPUT, offset=5, run=size, run_step=size, total=size, segment=size,
        wait_load=0,
    )  # fmt: skip
    return AcceleratorSegment(
        code=b"".join(item.to_bytes() for item in (load, store, Halt())),
        inputs=(Binding(tensor=source, offset=3),),
        outputs=(Binding(tensor=target, offset=5),),
        input_bytes=3 + size,
        output_bytes=5 + size,
        arena_bytes=0,
        layer_of=(0, 0, -1),
    )


def tensor(name, shape=(2, 12)):
    return TensorInfo(name=name, shape=shape, dtype="int8", scale=0.5, zero_point=-3)


@pytest.fixture
def fake():
    return FakeTransport


@pytest.fixture
def copy_program(tiny):
    """Return a maker of programs that copy "x" to "y", with another load region if asked."""

    def make(**options):
        return Program(
            config=tiny,
            model="copy",
            reference="tflm",
            inputs=("x",),
            outputs=("y",),
            tensors={name: tensor(name) for name in ("x", "y")},
            segments=(copy_segment("x", "y", **options),),
            constants=bytes(range(7)),
            layers=(Layer(name="y", op="COPY", target="npu", macs=0),),
        )

    return make


@pytest.fixture
def softmax_program(tiny):
    """A program that copies "x" to "logits", takes softmax, and copies the result to "y"."""
    host = HostSegment(
        op="softmax",
        inputs=("logits",),
        outputs=("share",),
        attributes=softmax.prepare(1.0, 0.5),
        layer=1,
    )
    return Program(
        config=tiny,
        model="copy-softmax-copy",
        reference="tflm",
        inputs=("x",),
        outputs=("y", "logits"),
        tensors={name: tensor(name) for name in ("x", "logits", "share", "y")},
        segments=(copy_segment("x", "logits"), host, copy_segment("share", "y")),
        constants=b"",
        layers=tuple(
            Layer(name=name, op=op, target=target, macs=0)
            for name, op, target in (
                ("logits", "COPY", "npu"),
                ("share", "SOFTMAX", "cpu"),
                ("y", "COPY", "npu"),
            )
        ),
    )


@pytest.fixture
def samples(rng):
    return rng.integers(-128, 128, (5, 2, 12)).astype(np.int8)
