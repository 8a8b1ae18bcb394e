"""What induction must know about the queues of Amaranth's library."""

from collections.abc import Iterator

from amaranth.hdl import Const, Signal, Value
from amaranth.utils import bits_for

from .monitor import Monitor


class FifoProbe:
    """Inside of a `SyncFIFO`.

    Parameters
    ----------
    t : Monitor
        Monitor of the design.
    path : str
        The queue inside the design.
    depth : int
        Its rows.
    width : int
        Bits of a row.
    level : str
        Name of the signal that counts the rows in use.

    Attributes
    ----------
    level : Signal
        Rows in use.
    rows : list of Value
        Contents, from the oldest to the newest; only those below `level` mean anything.
    """

    def __init__(
        self, t: Monitor, path: str, depth: int, width: int, *, level: str = "level"
    ) -> None:
        name = "".join(c if c.isalnum() else "_" for c in path)
        index = range(depth)
        self.level = t.probe(f"{path}.{level}", bits_for(depth))
        produce = t.probe(f"{path}.produce", index) if depth > 1 else Const(0)
        consume = t.probe(f"{path}.consume", index) if depth > 1 else Const(0)
        t.invariant(f"{name}_level", self.level <= depth)
        t.invariant(f"{name}_rows", (produce < depth) & (consume < depth))
        behind = consume + self.level
        t.invariant(f"{name}_ends", (behind == produce) | (behind == produce + depth))
        memory = t.probe_memory(f"{path}.storage", depth, width)
        self.rows: list[Value] = []
        for offset in range(depth):
            row = Signal(width, name=f"{name}_row{offset}")
            with t.m.Switch(consume):
                for begin in range(depth):
                    with t.m.Case(begin):
                        t.m.d.comb += row.eq(memory[(begin + offset) % depth])
            self.rows.append(row)

    def holds(self, index: int) -> Value:
        """Return whether the row of that age is in use."""
        return self.level > index


class FlowFifoProbe:
    """Inside of a `FlowFifo`.

    Parameters
    ----------
    t, path, depth, width :
        As of :class:`FifoProbe`.

    Attributes
    ----------
    valid : Signal
        The register holds a value.
    value : Signal
        It.
    queue : FifoProbe
        The values behind it.
    """

    def __init__(self, t: Monitor, path: str, depth: int, width: int) -> None:
        self.queue = queue = FifoProbe(t, path, depth - 1, width, level="behind")
        self.valid = valid = t.probe(f"{path}.o__valid")
        self.value = t.probe(f"{path}.head", width)
        self.level = queue.level + valid

    def occupied(self) -> Iterator[tuple[Value, Value]]:
        """Yield whether a place is in use, and what is there, oldest first if the first one is."""
        yield self.valid, self.value
        for index, row in enumerate(self.queue.rows):
            yield self.queue.holds(index), row
