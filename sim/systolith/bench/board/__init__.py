"""A whole board in Verilator: the top that boards instantiate, its UART on a pseudo-terminal."""

from .device import CLOCKS_PER_BIT, MEMORY_BYTES, SimulatedBoard, Traffic

__all__ = ["CLOCKS_PER_BIT", "MEMORY_BYTES", "SimulatedBoard", "Traffic"]
