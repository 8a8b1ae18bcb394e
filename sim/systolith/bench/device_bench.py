"""What benches of one simulated device share: its registers by name, and what they must say."""

from collections.abc import Iterator

import numpy as np

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.bench.rtl import RtlDevice


class DeviceBench:
    """One device that is tried.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    device : RtlDevice
        Hardware, just reset.
    seed : int
        Seed of what is drawn.
    """

    def __init__(self, config: AcceleratorConfig, device: RtlDevice, seed: int) -> None:
        self._config, self._device = config, device
        self._rng = np.random.default_rng(seed)

    def _read(self, name: str) -> int:
        return self._device.read_register(csr.BY_NAME[name].addr)

    def _write(self, name: str, value: int) -> None:
        self._device.write_register(csr.BY_NAME[name].addr, value)

    def _write_region(self, number: int, base: int, size: int, flags: int) -> None:
        self._write(f"region{number}_base_lo", base & 0xFFFFFFFF)
        self._write(f"region{number}_base_hi", base >> 32)
        self._write(f"region{number}_size", size)
        self._write(f"region{number}_flags", flags)

    def _differ(self, when: str, wanted: dict[str, int]) -> Iterator[str]:
        """Yield one sentence for each register that has another value."""
        for name, value in wanted.items():
            found = self._read(name)
            if found != value:
                yield f"{name} {when}: {found:#x}, not {value:#x}"


def fault_report(code: Fault, engine: isa.Engine, index: int, addr: int) -> dict[str, int]:
    """Return the values of the registers that report a fault, by name."""
    return {
        "fault": csr.pack("fault", code=code, engine=engine),
        "fault_index": index,
        "fault_addr_lo": addr & 0xFFFFFFFF,
        "fault_addr_hi": addr >> 32,
    }
