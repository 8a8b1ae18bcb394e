"""ULX3S with the largest ECP5: the reference board, built with open tools."""

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
