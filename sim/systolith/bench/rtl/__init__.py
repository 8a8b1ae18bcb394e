"""The generated hardware as a device: Verilog, Verilator, a C++ memory, and Python around them."""

from .build import build_library, cache_folder, verilog_of
from .device import DEFAULT_LATENCY, RtlDevice

__all__ = ["DEFAULT_LATENCY", "RtlDevice", "build_library", "cache_folder", "verilog_of"]
