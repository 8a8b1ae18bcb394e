"""Lattice's ECP5-5G evaluation board."""

from dataclasses import replace

from .base import LFE5U_85F, Board

ECP5_EVN = Board(
    name="ecp5-evn",
    title="Lattice ECP5-5G Evaluation Board",
    device=replace(LFE5U_85F, name="LFE5UM5G-85F"),
    platform="amaranth_boards.ecp5_5g_evn:ECP55GEVNPlatform",
    config="edge-8x8",
    multiplier="mult18x18d",
    deep_pipeline=True,
    oscillator_hz=12_000_000,
    clock_hz=40_000_000,
    baud=1_000_000,
    memory_bytes=128 << 10,
    tools="open",
    note="The serial port needs two resistors moved, see the board's manual.",
)
