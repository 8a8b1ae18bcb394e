"""Declarations of `systolith.arch` as Amaranth layouts: the only place that maps them."""

from dataclasses import fields

from amaranth.hdl import signed, unsigned
from amaranth.lib import data

from systolith.arch import isa

HEADER_BITS = 40
"""Opcode and waits, which the sequencer consumes."""

BODY_BITS = isa.INSTRUCTION_BITS - HEADER_BITS

COMMAND = data.StructLayout(
    {
        "opcode": 8,
        "even": 1,  # the opcode is: its lowest bit once more, for choices of many bits
        "body": BODY_BITS,
        "index": isa.COUNTER_BITS,
        "targets": data.ArrayLayout(isa.COUNTER_BITS, 4),
    }
)
"""What the sequencer gives an engine: see hw/README.md."""

FAULT_REPORT = data.StructLayout({"code": 8, "index": isa.COUNTER_BITS, "addr": 64})
"""What an engine says when it stops a program."""

REGION = data.StructLayout({"base": 64, "size": 32, "read": 1, "write": 1})
"""One entry of the region table."""


def instruction_layout(cls):
    """Return the layout of a whole instruction word.

    Fields that are stored minus one keep their stored value: `count` fields read as value - 1.
    """
    return data.StructLayout({name: unsigned(width) for name, width in cls.layout()})


def body_layout(cls):
    """Return the layout of the instruction bits above the waits, signed fields as signed."""
    members = {}
    for f in fields(cls):
        if f.name.startswith("wait_"):
            continue
        width = f.metadata["bits"]
        members[f.name] = signed(width) if f.metadata["signed"] else unsigned(width)
    used = sum(f.metadata["bits"] for f in fields(cls) if not f.name.startswith("wait_"))
    if used < BODY_BITS:
        members["reserved"] = unsigned(BODY_BITS - used)
    return data.StructLayout(members)


def body(cls, command):
    """View the body of a `COMMAND` as the fields of instruction class `cls`."""
    return data.View(body_layout(cls), command.body)
