"""Tile steps: how GEOMETRY and PASS become what loader and streamer work on, in order."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa
from systolith.arch.isa import FeedMode, Geometry, Pass, WeightMode

from .queue import PROGRESS
from .slices import complement_of
from .words import COMMAND, body, body_layout

# Windows only move towards higher addresses, columns and lines, so what has left the image or the
# memory never comes back: beyond these limits a position is held, and its registers stay narrow.
X_LIMIT_LOG2 = 18
LINE_LIMIT_LOG2 = 14
ADDR_LIMIT_LOG2 = 23
WEIGHT_LIMIT_LOG2 = 19

X = signed(X_LIMIT_LOG2 + 2)
LINE = signed(LINE_LIMIT_LOG2 + 2)
ADDR = signed(ADDR_LIMIT_LOG2 + 4)
WEIGHT_ADDR_BITS = WEIGHT_LIMIT_LOG2 + 1
COUNT_BITS = 7
"""Bits of a number of lanes or rows, up to 64."""

TILE = data.StructLayout({"addr": WEIGHT_ADDR_BITS, "rows": COUNT_BITS})
"""Weight tile to shift in: first word of the weight buffer, and words; rows above are zero."""

WALK = data.StructLayout(
    {
        "depthwise": 1,
        "pad": signed(8),
        "lines": 14,
        "line_bytes": 18,
        "ky_lines": 6,
        "ky_step": isa.LOCAL_ADDR_BITS,
        "lanes": COUNT_BITS,
        "index": isa.COUNTER_BITS,
    }
)
"""What the windows of a step have in common, and the index of their instruction."""

STEP = data.StructLayout(
    {
        "setup": 1,  # a GEOMETRY: no vectors, only its place in the order
        "first": 1,
        "last": 1,
        "new_tile": 1,
        "walk": WALK,
        "x": X,
        "line": LINE,
        "addr": ADDR,
        "row_lines": 5,
        "row_step": isa.LOCAL_ADDR_BITS,
        "col_step": 18,
        "op": 2,
        "acc": 11,
        "rows": 11,
        "cols": 11,
        "line_vectors": 11,
        "tail": 5,
        "targets": PROGRESS,
    }
)
"""One tile step; `rows`, `cols` and `line_vectors` are stored minus one, as in the instruction."""


def held_sum(value, step, limit_log2):
    """Return `value + step`, or `value` if that has reached `2 ** limit_log2` already."""
    beyond = value[limit_log2:-1].any() & ~value[-1]
    # Nothing is added instead of nothing done, which would delay the enable of the register.
    return value + Mux(beyond, 0, step)


class StepSequencer(wiring.Component):
    """Takes the commands of EXECUTE apart into tile steps and weight tiles.

    Timing: a PASS takes 1 cycle and 1 per step, a GEOMETRY 1, if the streams are ready.

    Parameters
    ----------
    feeds : int
        Column feeds, which is how many kernel lines a step of depthwise mode covers.

    Members
    -------
    command : ``In(stream of COMMAND)``
        Instructions.
    steps : ``Out(stream of STEP)``
        Steps, also those of setup instructions, of which only `setup`, `first`, `targets` and the
        index count.
    tiles : ``Out(stream of TILE)``
        Tiles of the steps with `new_tile`, each offered in the cycle in which its step is taken;
        must be ready whenever `steps` is.
    """

    def __init__(self, *, feeds):
        self._feeds = feeds
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND)),
                "steps": Out(stream.Signature(STEP)),
                "tiles": Out(stream.Signature(TILE)),
            }
        )

    @property
    def feeds(self):
        return self._feeds

    def elaborate(self, platform):
        m = Module()
        geometry = Signal(body_layout(Geometry))
        item = body(Pass, self.command.p)
        has_tile = Signal()
        active = Signal()
        inactive = complement_of(active)
        first = Signal()
        x, addr, line = Signal(X), Signal(ADDR), Signal(LINE)
        chunk_last, last = Signal(), Signal()
        w_addr = Signal(WEIGHT_ADDR_BITS)
        # This engine is given two opcodes, told apart by one bit.
        is_pass = self.command.p.opcode[0]
        setup = self.command.valid & ~is_pass

        tile_rows = Signal(COUNT_BITS)
        last_rows = Mux(chunk_last, geometry.weight_rows_last, geometry.weight_rows)
        keep = item.weights == WeightMode.KEEP
        # Before the first tile of a program, the array counts as zero: a tile of no rows.
        m.d.comb += tile_rows.eq(Mux(keep, 0, last_rows + 1))
        new_tile = (item.weights == WeightMode.EACH) | (first & (~keep | ~has_tile))
        m.d.comb += [
            self.tiles.p.addr.eq(w_addr),
            self.tiles.p.rows.eq(tile_rows),
            self.tiles.valid.eq(active & new_tile & self.steps.ready),
            self.steps.valid.eq(active | setup),
        ]
        self._connect_step(m, geometry, item, chunk_last)
        m.d.comb += [
            self.steps.p.setup.eq(~active),
            self.steps.p.first.eq(~active | first),
            self.steps.p.last.eq(last),
            self.steps.p.new_tile.eq(new_tile),
            self.steps.p.x.eq(x),
            self.steps.p.addr.eq(addr),
            self.steps.p.line.eq(line),
            self.steps.p.op.eq(Mux(first, item.first_op, item.next_op)),
        ]

        advance = active & self.steps.ready
        with m.If(advance):
            m.d.sync += first.eq(0)
            with m.If(new_tile):
                m.d.sync += has_tile.eq(1)
                m.d.sync += w_addr.eq(Mux(w_addr[-1], w_addr, w_addr + tile_rows))
        # That there is a command is not asked again, and may be known late.
        m.d.comb += self.command.ready.eq(self.steps.ready & Mux(inactive, ~is_pass, last))
        with m.If(~active & setup):
            m.d.sync += geometry.eq(body(Geometry, self.command.p))
        # What a pass begins with is loaded until it begins, which needs no enable.
        with m.If(~active):
            m.d.sync += [first.eq(1), w_addr.eq(item.weight_addr)]
        goes_on = Mux(inactive, self.command.valid & is_pass, ~(self.steps.ready & last))
        m.d.sync += [active.eq(goes_on), inactive.eq(~goes_on)]
        ends, moves = self._elaborate_counts(m, geometry, ~active, advance)
        m.d.comb += [chunk_last.eq(ends[0]), last.eq(Cat(ends).all())]
        self._elaborate_loops(m, geometry, item, ~active, advance, moves, (x, addr, line))
        return m

    def _connect_step(self, m, geometry, item, chunk_last):
        """Drive the members of `steps` that are fields of the instructions."""
        step, lanes = self.steps.p, Mux(chunk_last, geometry.lanes_last, geometry.lanes)
        m.d.comb += [
            step.walk.depthwise.eq(geometry.mode == FeedMode.DEPTHWISE),
            step.walk.lanes.eq(lanes + 1),
            step.walk.index.eq(self.command.p.index),
            step.targets.eq(self.command.p.targets),
        ]
        m.d.comb += [
            step.walk[name].eq(geometry[name])
            for name in ("pad", "lines", "line_bytes", "ky_lines", "ky_step")
        ]
        m.d.comb += [
            step[name].eq(geometry[name]) for name in ("row_lines", "row_step", "col_step")
        ]
        m.d.comb += [
            step[name].eq(item[name]) for name in ("acc", "rows", "cols", "line_vectors", "tail")
        ]

    def _elaborate_counts(self, m, geometry, load, advance):
        """Count chunks, kx and ky.

        Return whether each is the last one, and what follows a step: the next kx, the next ky, neither
        of them if it is the next chunk. All of that is compared a cycle ahead.
        """
        ends, then = [], []
        turns = Const(1)
        for name in ("chunk", "kx", "ky"):
            limit = geometry[f"{name}_count"]
            count, end = Signal.like(limit, name=name), Signal(name=f"{name}_end")
            restarts = load | end
            next_end = Signal(name=f"{name}_next_end")
            m.d.comb += next_end.eq(
                Mux(load | turns, Mux(restarts, limit == 0, count + 1 == limit), end)
            )
            with m.If(load | (advance & turns)):
                m.d.sync += count.eq(Mux(restarts, 0, count + 1))
            turns = turns & end
            ends.append(end)
            then.append(next_end)
        to_kx, to_ky = (Signal(name=name) for name in ("to_kx", "to_ky"))
        with m.If(load | advance):
            m.d.sync += [end.eq(value) for end, value in zip(ends, then, strict=True)]
            m.d.sync += [to_kx.eq(then[0] & ~then[1]), to_ky.eq(then[0] & then[1])]
        return ends, (to_kx, to_ky)

    def _elaborate_loops(self, m, geometry, item, load, advance, moves, position):
        """Add the loops over ky, kx and chunks; each level remembers where it began."""
        x, addr, line = position
        to_kx, to_ky = moves
        kx_x, kx_addr, ky_addr = Signal(X), Signal(ADDR), Signal(ADDR)
        # A pass takes its first step two cycles after its geometry: these are there by then.
        depthwise = geometry.mode == FeedMode.DEPTHWISE
        lines, bytes_ = (
            Mux(depthwise, value * self.feeds, value)
            for value in (geometry.ky_lines, geometry.ky_step)
        )
        line_step = Signal(lines.shape(), reset_less=True)
        addr_step = Signal(bytes_.shape(), reset_less=True)
        m.d.sync += [line_step.eq(lines), addr_step.eq(bytes_)]
        chunk_x = held_sum(x, geometry.chunk_step, X_LIMIT_LOG2)
        chunk_addr = held_sum(addr, geometry.chunk_step, ADDR_LIMIT_LOG2)
        next_x = Mux(to_ky, item.x, held_sum(kx_x, geometry.kx_step, X_LIMIT_LOG2))
        next_ky = held_sum(ky_addr, addr_step, ADDR_LIMIT_LOG2)
        next_addr = Mux(to_ky, next_ky, held_sum(kx_addr, geometry.kx_step, ADDR_LIMIT_LOG2))
        with m.If(advance):
            m.d.sync += [
                x.eq(Mux(to_kx | to_ky, next_x, chunk_x)),
                addr.eq(Mux(to_kx | to_ky, next_addr, chunk_addr)),
            ]
        # Enables of their own, which do not wait for what is chosen above.
        with m.If(advance & (to_kx | to_ky)):
            m.d.sync += [kx_x.eq(next_x), kx_addr.eq(next_addr)]
        with m.If(advance & to_ky):
            m.d.sync += [ky_addr.eq(next_ky), line.eq(held_sum(line, line_step, LINE_LIMIT_LOG2))]
        with m.If(load):
            m.d.sync += line.eq(item.y)
            m.d.sync += [x.eq(item.x), kx_x.eq(item.x)]
            m.d.sync += [addr.eq(item.addr), kx_addr.eq(item.addr), ky_addr.eq(item.addr)]
