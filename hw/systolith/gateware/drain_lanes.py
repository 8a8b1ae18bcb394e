"""The lanes of the drain: requantizer, table, elementwise unit, and the skew around them."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa

from .delay import delay_line, delayed
from .drain_params import SETS, ParameterStore
from .elementwise import SETTINGS as ELEMENTWISE
from .elementwise import Elementwise
from .parity import noticed
from .requantize import Requantizer
from .tables import TABLE_ROW_WRITE, TableLane
from .words import body_layout

_SHARING_LANES = 2
"""Lanes that share an elementwise unit: rows with two operands come every second cycle anyway."""

QUANTIZE = body_layout(isa.Quantize)
"""The fields of a `QUANTIZE` instruction."""


def control_layout(groups):
    """Return the layout of what the lanes must know about a row."""
    return data.StructLayout(
        {
            "valid": 1,  # there is a row
            "first": 1,  # of the rows that are added up
            "group": range(groups),
            "biased": 1,  # add the bias of the set
            "per_channel": 1,  # multiplier and shift of the set
            "no_scale": 1,  # multiplier 0: no set was ever loaded
            "sets": SETS,
            "vector": 1,  # operand a comes from the scratchpad
            "pair": 1,  # and operand b too
            "use_table": 1,
            "table": 2,
            "combine": 1,  # this row uses the elementwise unit
        }
    )


class DrainLanes(wiring.Component):
    """Pipeline of `lanes` equal lanes, each one cycle behind the one before.

    Lane l of a row: the sum comes `acc_latency + l` cycles after the row is issued; it is
    requantized (or replaced by operand a), looked up and, if the row says so, combined with operand
    b; the results of all lanes are then brought back into one cycle. Two neighbouring lanes share
    an elementwise unit, which they need in successive cycles.

    Timing: latency `plain_latency` cycles from `control` to `result`, `latency` for a row with
    `combine`; one row per cycle, but not two successive ones with `combine`, and no row may meet
    another at the end; no stalls. `quantize` and `elementwise` must be constant while rows are
    inside.

    Parameters
    ----------
    cols, lanes : int
        Columns of the accumulators, and lanes; `lanes` divides `cols`.
    word_bytes : int
        Bytes of a word of the parameter memory (W).
    acc_latency : int
        Cycles from a row's `control` to the sum of lane 0.
    operand_latency : int
        Cycles from a row's `control` to its last operand.
    protected : bool
        Whether its memories have parity.
    deep : bool
        See :class:`Elementwise`.

    Members
    -------
    control : ``In(control_layout(cols // lanes))``
        Of the row that is issued in this cycle, if any.
    sums : ``In(signed(32)).array(lanes)``
        From the accumulators, skewed.
    operand : ``In(ArrayLayout(8, lanes))``
        From the scratchpad.
    hold : ``In(1)``
        `operand` is the first of a pair.
    quantize : ``In(QUANTIZE)``
    elementwise : ``In(ELEMENTWISE)``
    param_write : ``In``
        Write port of :class:`ParameterStore`.
    table_write : ``In(TABLE_ROW_WRITE)``
    result : ``Out(ArrayLayout(8, lanes))``
    soft_error : ``Out(1)``, if `protected`
        What was read has wrong parity.
    """

    def __init__(
        self,
        *,
        cols,
        lanes,
        word_bytes,
        acc_latency,
        operand_latency,
        protected=False,
        deep=False,
    ):
        value_at = acc_latency + Requantizer.latency
        if operand_latency > value_at:
            raise ValueError(
                f"operand_latency must be at most {value_at} with an acc_latency of "
                f"{acc_latency}, not {operand_latency}"
            )
        self._acc_latency, self._operand_latency = acc_latency, operand_latency
        self._lanes = lanes
        self._protected = protected
        self._units = [Elementwise(deep=deep) for _ in range(0, lanes, _SHARING_LANES)]
        self._params = ParameterStore(
            cols=cols, lanes=lanes, word_bytes=word_bytes, protected=protected
        )
        row = data.ArrayLayout(unsigned(8), lanes)
        super().__init__(
            {
                "control": In(control_layout(cols // lanes)),
                "sums": In(signed(32)).array(lanes),
                "operand": In(row),
                "hold": In(1),
                "quantize": In(QUANTIZE),
                "elementwise": In(ELEMENTWISE),
                "param_write": In(self._params.write_layout),
                "table_write": In(TABLE_ROW_WRITE),
                "result": Out(row),
            }
            | ({"soft_error": Out(1)} if protected else {})
        )

    @property
    def protected(self):
        return self._protected

    @property
    def deep(self):
        return self._units[0].deep

    @property
    def lanes(self):
        return self._lanes

    @property
    def acc_latency(self):
        return self._acc_latency

    @property
    def operand_latency(self):
        return self._operand_latency

    @property
    def latency(self):
        """Cycles from the `control` of a row with `combine` to its `result`."""
        return self._out_at + self.lanes - 1

    @property
    def plain_latency(self):
        """Cycles from the `control` of any other row to its `result`."""
        return self._entry_at + self.lanes - 1

    @property
    def params_until(self):
        """Cycles after `control` in which the last lane reads the parameters of a row."""
        return self.acc_latency + self.lanes - 1

    @property
    def _value_at(self):
        """Cycles from a row's `control` to the requantized value of lane 0."""
        return self.acc_latency + Requantizer.latency

    @property
    def _entry_at(self):
        return self._value_at + TableLane.latency

    @property
    def _out_at(self):
        return self._entry_at + self._units[0].latency

    def elaborate(self, platform):
        m = Module()
        m.submodules.params = params = self._params
        m.d.comb += params.write.eq(self.param_write)
        layout = self.control.shape()
        controls = [
            data.View(layout, tap)
            for tap in delay_line(m, self.control, self.latency, name="control")
        ]
        operand_a, operand_b = self._operands(m, controls[self.operand_latency])
        entries, self._broken = [], []
        for lane in range(self.lanes):
            value = self._requantize(m, lane, controls[self.acc_latency + lane])
            control = controls[self._value_at + lane]
            entries.append(self._look_up(m, lane, control, value, operand_a[lane]))
        for first in range(0, self.lanes, _SHARING_LANES):
            unit = self._combine(m, first, controls[self._entry_at + first], entries, operand_b)
            for lane in range(first, min(first + _SHARING_LANES, self.lanes)):
                wait = self.lanes - 1 - lane
                entry = delayed(m, entries[lane], wait, name=f"entry{lane}")
                combined = delayed(m, unit.result, wait, name=f"combined{lane}")
                combines = controls[self.latency].combine
                m.d.comb += self.result[lane].eq(Mux(combines, combined, Cat(entry)))
        if self.protected:
            m.d.comb += self.soft_error.eq(noticed(m, *self._broken, name="broken"))
        return m

    def _operands(self, m, control):
        """Return operands a and b of each lane, when that lane needs them."""
        held = Signal(8 * self.lanes, reset_less=True)
        with m.If(self.hold):
            m.d.sync += held.eq(self.operand)
        operand = self.operand.as_value()

        def skewed(name, value, at):
            ready = delayed(m, value, at - self.operand_latency, name=name)
            return [
                delayed(m, ready[8 * lane : 8 * lane + 8], lane, name=f"{name}{lane}")
                for lane in range(self.lanes)
            ]

        first = Mux(control.pair, held, operand)
        return skewed("a", first, self._value_at), skewed("b", operand, self._entry_at)

    def _requantize(self, m, lane, control):
        params, settings = self._params, self.quantize
        m.submodules[f"requantizer{lane}"] = requantizer = Requantizer()
        tensor_multiplier = Mux(control.no_scale, 0, settings.multiplier)
        m.d.comb += [
            params.r_set[lane].eq(control.sets),
            params.r_group[lane].eq(control.group),
            requantizer.valid.eq(control.valid),
            requantizer.sum.eq(self.sums[lane]),
            requantizer.start.eq(control.first),
            requantizer.bias.eq(Mux(control.biased, params.bias[lane], 0)),
            requantizer.multiplier.eq(
                Mux(control.per_channel, params.multiplier[lane], tensor_multiplier)
            ),
            requantizer.shift.eq(Mux(control.per_channel, params.shift[lane], settings.shift)),
            # As late as the lane is: one register for all would have a large fan-out.
            requantizer.rounding.eq(delayed(m, settings.rounding, lane, name=f"rounding{lane}")),
            requantizer.zero_point.eq(settings.zero_point),
            requantizer.low.eq(settings.low),
            requantizer.high.eq(settings.high),
        ]
        if self.protected:
            wrong = (control.biased & params.bias_broken[lane]) | (
                control.per_channel & params.scale_broken[lane]
            )
            self._broken.append(control.valid & wrong)
        return requantizer.value

    def _look_up(self, m, lane, control, value, operand):
        m.submodules[f"table{lane}"] = table = TableLane(protected=self.protected)
        m.d.comb += [
            table.value.eq(Mux(control.vector, operand, value)),
            table.enable.eq(control.use_table),
            table.table.eq(control.table),
            table.write.eq(self.table_write),
        ]
        if self.protected:
            # Between rows something is looked up too, which may never have been loaded.
            wanted = delayed(
                m, control.valid, TableLane.latency, name=f"looked_up{lane}", reset_less=False
            )
            self._broken.append(table.soft_error & wanted)
        return table.entry

    def _combine(self, m, first, control, entries, operands):
        """Add the elementwise unit of two lanes: the second one needs it a cycle later."""
        m.submodules[f"elementwise{first}"] = unit = self._units[first // _SHARING_LANES]
        second = min(first + 1, self.lanes - 1)
        m.d.comb += [
            unit.a.eq(Mux(control.combine, entries[first], entries[second])),
            unit.b.eq(Mux(control.combine, operands[first], operands[second])),
            unit.settings.eq(self.elementwise),
            # As late as the lane is, for the same reason as the rounding of the requantizers.
            unit.settings.out_shift.eq(
                delayed(m, self.elementwise.out_shift, first, name=f"out_shift{first}")
            ),
        ]
        return unit
