"""Digilent Arty A7: Verilog, constraints and a script for the vendor's tools."""

from .base import XC7A100T, Board

ARTY_A7 = Board(
    name="arty-a7",
    title="Digilent Arty A7-100T",
    device=XC7A100T,
    platform="amaranth_boards.arty_a7:ArtyA7_100Platform",
    config="edge-8x8",
    oscillator_hz=100_000_000,
    clock_hz=100_000_000,
    baud=1_000_000,
    memory_bytes=128 << 10,
    tools="vendor",
    note="Sources and a Vivado script; not built here, so no frequency is promised.",
)
