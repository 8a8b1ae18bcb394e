"""Registers that a proof keeps beside the design: what has happened on its pins."""

from amaranth.hdl import Mux, ShapeLike, Signal, Value, ValueLike

from .monitor import Monitor


class Ghost:
    """Queue of what is under way, as registers.

    A value that is pushed in this cycle is seen in this cycle already.

    Parameters
    ----------
    t : Monitor
        Monitor that keeps it.
    name : str
        Name of the queue.
    depth : int
        Values that it holds; the proof must show that there are never more.
    shape : ShapeLike
        Shape of a value.
    push, pop : ValueLike
        A value is added, the oldest one leaves; it may be the one that is added.
    value : ValueLike
        The value to add.

    Attributes
    ----------
    count : Value
        Values under way, with the one that is pushed.
    values : list of Value
        From the oldest to the newest; only those below `count` mean anything.
    """

    def __init__(
        self,
        t: Monitor,
        name: str,
        depth: int,
        shape: ShapeLike,
        *,
        push: ValueLike,
        value: ValueLike,
        pop: ValueLike,
    ) -> None:
        push, pop, value = (Value.cast(v) for v in (push, pop, value))
        stored = [Signal(shape, name=f"{name}{row}", reset_less=True) for row in range(depth)]
        count = Signal(range(depth + 2), name=f"{name}_count")
        t.expect(f"{name}_has_room", (count < depth) | (push == 0))
        t.invariant(f"{name}_fits", count <= depth)
        self.count = Signal(range(depth + 2), name=f"{name}_now")
        t.m.d.comb += self.count.eq(count + push)
        self.values: list[Value] = []
        for row, old in enumerate(stored):
            now = Signal(shape, name=f"{name}{row}_now")
            t.m.d.comb += now.eq(Mux(push & (count == row), value, old))
            self.values.append(Value.cast(now))
        t.m.d.sync += count.eq(self.count - pop)
        for old, same, after in zip(
            stored, self.values, [*self.values[1:], self.values[-1]], strict=True
        ):
            t.m.d.sync += old.eq(Mux(pop, after, same))

    def holds(self, index: int) -> Value:
        """Return whether there is a value of that age."""
        return self.count > index
