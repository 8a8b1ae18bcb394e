"""Digilent Arty Z7-20, with the chip of PYNQ-Z1 and PYNQ-Z2: the processor is the host."""

from .base import XC7Z020, Board

ARTY_Z7 = Board(
    name="arty-z7",
    title="Digilent Arty Z7-20 (chip of PYNQ-Z1 and PYNQ-Z2)",
    device=XC7Z020,
    platform="amaranth_boards.arty_z7:ArtyZ720Platform",
    config="edge-8x8",
    oscillator_hz=125_000_000,
    clock_hz=100_000_000,
    tools="vendor",
    processor=True,
    note="A package with the block design around it; not built here, so no frequency is promised.",
)
