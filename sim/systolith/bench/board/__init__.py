"""A whole board in Verilator: the top that boards instantiate, its UART on a pseudo-terminal."""

from .device import CLOCK_HZ, MEMORY_BYTES, SimulatedBoard, Traffic

__all__ = ["CLOCK_HZ", "MEMORY_BYTES", "SimulatedBoard", "Traffic"]
