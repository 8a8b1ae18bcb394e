"""The generated hardware as a device: Verilog, Verilator, a C++ memory, and Python around them."""

from .build import build_library, cache_folder, verilog_of
from .device import RtlDevice

__all__ = ["RtlDevice", "build_library", "cache_folder", "verilog_of"]
