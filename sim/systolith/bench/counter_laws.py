"""What the performance counters must say of programs whose events can be counted without hardware.

Bytes and vectors are counted in the program. The time in which an engine is busy grows with the memory's
latency, or with the rows it has, by a known number of cycles. Engines without instructions count
nothing; and every cycle of EXECUTE is one of those that its counters tell apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.bench import differential
from systolith.bench.random_instruction import WAIT_FOR_ALL, block
from systolith.bench.random_program import RegionImage
from systolith.bench.rtl import RtlDevice
from systolith.gateware.burst import BURST_BEATS

Counters = dict[str, int]

_BYTES = 256
_LATENCIES = (20, 53)
_TIMEOUT_S = 0.1
_EXECUTE = ("array_busy", *(name for name, _ in csr.COUNTERS if name.startswith("execute_")))


class CounterBench:
    """Programs for one configuration, and what was counted of them.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._load = block(isa.Load, isa.Space.SCRATCHPAD, 1, 0, 0, _BYTES)
        self._store = block(isa.Store, isa.Space.SCRATCHPAD, 2, 0, 0, _BYTES)

    @property
    def _overlaps(self) -> bool:
        """Whether all bursts of a move are in flight at once, so that their latency is seen once.

        Else the end of a program is also fetched so late that other engines are idle by then.
        """
        longest: int = BURST_BEATS * self._config.axi_bytes
        return self._config.axi_outstanding > _BYTES // longest

    def run(self, items: Sequence[isa.Instruction], latency: int = _LATENCIES[0]) -> Counters:
        """Run a program whose instructions wait for all before, and return cycles and counters."""
        program = [*(replace(item, **WAIT_FOR_ALL) for item in items), isa.Halt()]
        regions = (
            RegionImage(bytes(_BYTES), read=True, write=False),
            RegionImage(bytes(_BYTES), read=False, write=True),
        )
        with RtlDevice(self._config, latency=latency, memory_size=1 << 16) as device:
            differential.execute(device, program, regions, _TIMEOUT_S)
            names = ("cycles", *(name for name, _ in csr.COUNTERS))
            return {name: device.read_register(csr.BY_NAME[name].addr) for name in names}

    def passes(self, vectors: int) -> list[isa.Instruction]:
        """Return a program of one pass."""
        lanes = self._config.rows
        return [
            isa.Geometry(
                lines=1, line_bytes=lanes * vectors, col_step=lanes, lanes=lanes, lanes_last=lanes,
                weight_rows=lanes, weight_rows_last=lanes,
            ),
            isa.Pass(cols=vectors, line_vectors=vectors),
        ]  # fmt: skip

    def drains(self, rows: int) -> list[isa.Instruction]:
        """Return a program that drains some rows of one group of lanes."""
        lanes = min(self._config.lanes, self._config.cols)
        drain = isa.Drain(
            cols=rows, lanes=lanes, lanes_last=lanes, params=isa.ParamMode.NONE, col_step=lanes
        )
        return [isa.Quantize(multiplier=1 << 30, low=-128, high=127), drain]

    def problems(self) -> Iterator[str]:
        """Yield one sentence for each law that is broken."""
        laws = (*self._moves(), *self._waits(), *self._computations())
        for name, found, wanted in laws:
            if found != wanted:
                yield f"{name}: {found}, not {wanted}"

    def _moves(self) -> Iterator[tuple[str, object, object]]:
        """Yield (name, found, wanted) of programs that only move bytes."""
        size, late = isa.INSTRUCTION_BYTES, _LATENCIES[1] - _LATENCIES[0]
        for name, item, other in (("load", self._load, "store"), ("store", self._store, "load")):
            first, second = (self.run([item], latency) for latency in _LATENCIES)
            busy = f"{name}_busy"
            if self._overlaps:
                yield f"{busy}, later by latency", second[busy] - first[busy], late
            yield f"{other}_busy of {name}", first[f"{other}_busy"], 0
            read = _BYTES * (name == "load") + 2 * size
            yield f"read_bytes of {name}", first["read_bytes"], read
            yield f"write_bytes of {name}", first["write_bytes"], _BYTES * (name == "store")
            others = ("array_busy", "drain_busy", "drain_wait_port", "load_wait_port")
            yield f"others of {name}", [first[n] for n in others], [0] * len(others)
            longer = self.run([item] * 3)
            rest = [run["cycles"] - sum(run[n] for n in _EXECUTE) for run in (first, longer)]
            yield f"cycles of {name} that EXECUTE does not count", rest[0], rest[1]
            yield f"waits of EXECUTE in {name}", first["cycles"] - rest[0], first["execute_idle"]

    def _waits(self) -> Iterator[tuple[str, object, object]]:
        """Yield (name, found, wanted) of programs in which EXECUTE waits for another engine."""
        if not self._overlaps:
            return
        late, setup = _LATENCIES[1] - _LATENCIES[0], isa.Geometry()
        names = [f"execute_wait_{name}" for name in ("load", "drain", "store")]
        for name, item in (("load", self._load), ("store", self._store)):
            first, second = (self.run([item, setup], latency) for latency in _LATENCIES)
            growth = [second[n] - first[n] for n in names]
            yield f"waits for {name}", growth, [late * (n == f"execute_wait_{name}") for n in names]
        few, many = (self.run([*self.drains(rows), setup]) for rows in (3, 12))
        yield "waits for 9 more rows", [many[n] - few[n] for n in names], [0, 9, 0]

    def _computations(self) -> Iterator[tuple[str, object, object]]:
        for vectors in (1, 7, self._config.acc_rows):
            found = self.run(self.passes(vectors))
            yield f"array_busy of {vectors} vectors", found["array_busy"], vectors
            yield f"{vectors} vectors, too many cycles", found["cycles"] < vectors, False
            counted = sum(found[name] for name in _EXECUTE)
            yield f"{vectors} vectors, counted twice", counted > found["cycles"], False
        few, many = (self.run(self.drains(rows)) for rows in (3, 12))
        yield "drain_busy of 9 more rows", many["drain_busy"] - few["drain_busy"], 9
        if self._overlaps:
            yield "cycles of 9 more rows", many["cycles"] - few["cycles"], 9
        names = ("array_busy", "load_busy", "store_busy", "drain_wait_port", "write_bytes")
        yield "others of drain", [few[name] for name in names], [0] * len(names)


def problems(config: AcceleratorConfig) -> list[str]:
    """Return what the counters of a configuration's hardware say wrongly."""
    return list(CounterBench(config).problems())
