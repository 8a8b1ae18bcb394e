"""ULX3S with the largest ECP5: the reference board, built with open tools."""

from systolith.arch.config import AcceleratorConfig

from .base import LFE5U_85F, Board

ULX3S = Board(
    name="ulx3s",
    title="Radiona ULX3S 85F",
    device=LFE5U_85F,
    platform="amaranth_boards.ulx3s:ULX3S_85F_Platform",
    config="edge-8x8",
    multiplier="mult18x18d",
    deep_pipeline=True,
    oscillator_hz=25_000_000,
    clock_hz=40_000_000,
    clocks={"edge-8x8": 75_000_000},
    baud=1_000_000,
    memory_bytes=128 << 10,
    tools="open",
    note="Host link over the USB serial port of the board.",
)

ULX3S_LARGEST = AcceleratorConfig(
    name="ulx3s-10x12",
    rows=10,
    cols=12,
    scratchpad_bytes=128 << 10,
    weight_bytes=32 << 10,
    acc_rows=256,
    param_bytes=8 << 10,
    lanes=4,
    feeds=3,
    axi_data_bits=64,
)
"""As many cells as the chip has multipliers for, with a requantizer lane for every third column.

120 in the array, four in each lane and eight in each of the two elementwise units: 152 of 156. More
cells (12 x 12) would leave multipliers for a single lane, which takes 12 cycles for a row.
"""
