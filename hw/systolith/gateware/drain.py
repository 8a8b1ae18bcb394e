"""Drain engine: from accumulators and bytes of the scratchpad to bytes of the scratchpad."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch import isa
from systolith.arch.csr import Fault

from .delay import delayed
from .drain_lanes import QUANTIZE, DrainLanes, control_layout
from .drain_loader import ParameterLoader
from .drain_walk import DrainWalker
from .drain_writer import CHECK_LATENCY, DrainWriter
from .elementwise import SETTINGS as ELEMENTWISE
from .scratchpad import write_layout
from .tables import TableWriter, table_write_layout
from .words import COMMAND, FAULT_REPORT, body


class DrainEngine(wiring.Component):
    """Execute QUANTIZE, ELEMENTWISE, DRAIN and VECTOR, in order.

    A pipeline without stalls: a row of up to `lanes` columns is issued when its operands from
    the scratchpad are granted, and is written `plain_latency` cycles later, or `latency` if the
    elementwise unit is used. An instruction without that unit does not start before its rows
    can no longer overtake those of one with it. QUANTIZE and ELEMENTWISE
    wait until the pipeline is empty. DRAIN and VECTOR follow their predecessor down the
    pipeline; so an instruction that reads what an earlier one of this engine writes must wait for it
    by `wait_drain`. Parameters are loaded into a second set while earlier rows are on their way.

    The first byte, accumulator row or parameter word outside its memory is fault LOCAL_ADDRESS:
    its row and all that follow are not written.

    Timing: one row per cycle, one in two cycles if two values are combined; one cycle between
    the last row of an instruction and the first one of the next, if that has its parameters
    (`words + 2` cycles from the moment at which it stands in front). `command.ready` depends on
    registers and on `command.p`, `issue` combinationally on `read.ready`.

    Parameters
    ----------
    config : AcceleratorConfig
    acc_read_latency : int
        Cycles from `r_en` to lane 0 of `r_data`.
    read_latency, write_latency : int
        Of the scratchpad.

    Members
    -------
    command, done, fault, fault_stb, stop, idle
        As every engine has them. `idle` ignores a command that only stands in front.
    busy : ``Out(1)``
        An instruction is in progress or stands in front.
    wait_port : ``Out(1)``
        A read of the scratchpad was not granted in this cycle.
    param_en, param_addr, param_data
        Parameter memory: a word of W bytes, one cycle after `param_en`.
    r_en, r_addr, r_group, r_data
        Accumulators, as there.
    read, data : ``Out(stream of byte address)``, ``In(L x 8)``
        Windows of the scratchpad, `read_latency` cycles after the transfer.
    write : ``Out(stream.Signature(write_layout))``
        To the scratchpad; `ready` is ignored, because these writes must always win.
    table_write : ``In(stream.Signature(table_write_layout))``
        Beats from the load engine.
    soft_error : ``Out(1)``, if the memories are protected
        What was read of tables, parameters or rows has wrong parity.
    """

    def __init__(self, config, *, acc_read_latency, read_latency, write_latency):
        self._config = config
        self._acc_read_latency = acc_read_latency
        self._read_latency = read_latency
        self._write_latency = write_latency
        self._lanes = DrainLanes(
            cols=config.cols,
            lanes=config.lanes,
            word_bytes=config.weight_word_bytes,
            acc_latency=acc_read_latency,
            operand_latency=read_latency,
            protected=config.protects_memories,
            deep=config.deep_pipeline,
        )
        word = data.ArrayLayout(unsigned(8), config.word_bytes)
        write = write_layout(config.scratchpad_bytes, config.word_bytes)
        super().__init__(
            {
                "command": In(stream.Signature(COMMAND)),
                "done": Out(1),
                "fault": Out(FAULT_REPORT),
                "fault_stb": Out(1),
                "stop": In(1),
                "idle": Out(1),
                "busy": Out(1),
                "wait_port": Out(1),
                "param_en": Out(1),
                "param_addr": Out(range(config.param_words)),
                "param_data": In(data.ArrayLayout(unsigned(8), config.weight_word_bytes)),
                "r_en": Out(1),
                "r_addr": Out(range(2 * config.acc_rows)),
                "r_group": Out(range(config.cols // config.lanes)),
                "r_data": In(signed(32)).array(config.lanes),
                "read": Out(stream.Signature(exact_log2(config.scratchpad_bytes))),
                "data": In(word),
                "write": Out(stream.Signature(write)),
                "table_write": In(stream.Signature(table_write_layout(config.axi_bytes))),
            }
            | ({"soft_error": Out(1)} if config.protects_memories else {})
        )

    @property
    def config(self):
        return self._config

    @property
    def acc_read_latency(self):
        return self._acc_read_latency

    @property
    def read_latency(self):
        return self._read_latency

    @property
    def write_latency(self):
        return self._write_latency

    @property
    def latency(self):
        """Cycles from the issue of a row that is combined to the transfer of its write."""
        return self._lanes.latency + 1

    @property
    def plain_latency(self):
        """Cycles from the issue of any other row to the transfer of its write."""
        return self._lanes.plain_latency + 1

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.lanes = lanes = self._lanes
        m.submodules.walker = walker = DrainWalker(
            lanes=config.lanes, groups=config.cols // config.lanes
        )
        m.submodules.loader = loader = ParameterLoader(
            bias_words=config.bias_words,
            shift_words=config.shift_words,
            memory_words=config.param_words,
            word_bytes=config.weight_word_bytes,
            write_shape=lanes.param_write.shape(),
            hold_cycles=lanes.params_until + 1,
        )
        m.submodules.writer = writer = DrainWriter(
            lanes=config.lanes,
            latency=lanes.latency,
            plain_latency=lanes.plain_latency,
            size_bytes=config.scratchpad_bytes,
            word_bytes=config.word_bytes,
            acc_rows=2 * config.acc_rows,
            write_latency=self.write_latency,
            protected=config.protects_memories,
        )
        if config.protects_memories:
            m.d.comb += self.soft_error.eq(lanes.soft_error | writer.soft_error)
        m.submodules.tables = tables = TableWriter(beat_bytes=config.axi_bytes)
        wiring.connect(m, wiring.flipped(self.table_write), tables.i)
        m.d.comb += lanes.table_write.eq(tables.row)

        failed = Signal()
        halted = Signal()
        job = Signal(_job_layout(config), reset_less=True)
        empty, clear = self._watch_pipeline(m, walker.issue, job.control.combine)
        # `stop` counts a cycle late, a fault of its own does not: much waits for their sum.
        m.d.sync += halted.eq(halted | failed | self.stop)
        m.d.comb += [
            walker.halt.eq(halted),
            self.idle.eq(empty & (~walker.active | halted)),
            self.busy.eq(self.command.valid | walker.active | ~empty),
            self.wait_port.eq(self.read.valid & ~self.read.ready),
        ]
        self._dispatch(
            m, job, walker, loader, empty=empty, clear=clear, halted=halted, written=writer.done
        )
        self._connect_rows(m, job, walker, loader, writer)
        self._connect_memories(m, walker, loader, writer)
        self._connect_faults(m, job, loader, writer, failed, ~walker.active & empty & ~halted)
        return m

    def _watch_pipeline(self, m, issue, combining):
        """Return whether every row that was issued is written, and whether none can be overtaken."""
        cycles = self.latency + self.write_latency
        plain_cycles = self.plain_latency + self.write_latency
        ahead = self.latency - self.plain_latency - 1
        remaining, overtaken = Signal(range(cycles + 1)), Signal(range(ahead + 1))
        empty, clear = Signal(init=1), Signal(init=1)
        with m.If(issue):
            m.d.sync += [remaining.eq(Mux(combining, cycles, plain_cycles)), empty.eq(0)]
        with m.Elif(remaining != 0):
            m.d.sync += [remaining.eq(remaining - 1), empty.eq(remaining == 1)]
        with m.If(issue & combining):
            m.d.sync += [overtaken.eq(ahead), clear.eq(0)]
        with m.Elif(overtaken != 0):
            m.d.sync += [overtaken.eq(overtaken - 1), clear.eq(overtaken == 1)]
        return empty, clear

    def _dispatch(self, m, job, walker, loader, *, empty, clear, halted, written):
        """Take commands; `job` is what the rows of the current one have in common."""
        head = self.command.p
        drain, vector = body(isa.Drain, head), body(isa.Vector, head)
        # This engine is given four opcodes, told apart by two bits. `describes_vector` means nothing
        # for settings, but chooses the many bits of a job without delay, and without `is_vector`.
        is_vector, has_rows = head.opcode[0], head.opcode[1]
        describes_vector = ~head.even
        is_drain = has_rows & ~is_vector
        loads = is_drain & (drain.params == isa.ParamMode.LOAD)
        per_channel = self._lanes.quantize.per_channel
        may_start = self.command.valid & ~halted & ~walker.active
        pairs = vector.op == isa.VectorOp.ELEMENTWISE
        combines = Mux(is_vector, pairs, drain.use_residual)
        waits = (drain.params == isa.ParamMode.LOAD) & ~loader.ready
        drain_may = (clear | drain.use_residual) & ~waits
        start = may_start & has_rows & Mux(is_vector, clear | pairs, drain_may)
        setup = may_start & empty & ~has_rows
        self._set_up(m, setup, head, written)
        m.d.comb += [
            self.command.ready.eq(start | setup),
            loader.request.eq(self.command.valid & loads & ~halted),
            loader.addr.eq(drain.param_addr),
            loader.per_channel.eq(per_channel),
            loader.take.eq(start & loads),
            walker.start.eq(start),
        ]
        _describe_walk(m, walker.job, drain, vector, describes_vector, self._lanes.lanes)
        # Loaded until there is a start, which is known late.
        with m.If(~walker.active):
            control = job.control
            keeps = drain.params != isa.ParamMode.NONE
            scaled = keeps & per_channel
            m.d.sync += [
                job.index.eq(head.index),
                job.uses_params.eq(is_drain & keeps),
                control.biased.eq(keeps & (loads | loader.has_bias)),
                control.per_channel.eq(scaled & (loads | loader.has_scale)),
                control.no_scale.eq(scaled & ~loads & ~loader.has_scale),
                control.sets.eq(loader.sets),
                control.vector.eq(describes_vector),
                control.pair.eq(walker.job.pair),
                control.use_table.eq(
                    Mux(describes_vector, vector.op == isa.VectorOp.TABLE, drain.use_table)
                ),
                control.table.eq(Mux(describes_vector, vector.table, drain.table)),
                control.combine.eq(combines),
            ]

    def _set_up(self, m, setup, head, written):
        """Keep the settings of QUANTIZE and ELEMENTWISE; zero until the first one."""
        quantize, elementwise = Signal(QUANTIZE), Signal(ELEMENTWISE)
        with m.If(setup & ~head.opcode[0]):
            m.d.sync += quantize.eq(body(isa.Quantize, head))
        with m.If(setup & head.opcode[0]):
            m.d.sync += elementwise.eq(body(isa.Elementwise, head))
        m.d.comb += [
            self._lanes.quantize.eq(quantize),
            self._lanes.elementwise.eq(elementwise),
            self.done.eq(written | setup),
        ]

    def _connect_rows(self, m, job, walker, loader, writer):
        """Send each row down the lanes and, beside them, its address."""
        control = self._lanes.control
        m.d.comb += [
            control.eq(job.control),
            control.valid.eq(walker.issue),
            control.first.eq(walker.row.first),
            control.group.eq(walker.group),
            control.combine.eq(job.control.combine & walker.issue & walker.row.write),
            loader.issue.eq(walker.issue),
            loader.use.eq(job.uses_params),
            loader.use_sets.eq(job.control.sets),
            writer.issue.eq(walker.issue),
            writer.row.eq(walker.row),
            writer.uses_acc.eq(~job.control.vector),
            writer.uses_a.eq(job.control.vector),
            writer.uses_b.eq(job.control.combine),
            writer.combines.eq(job.control.combine),
            writer.result.eq(self._lanes.result),
        ]

    def _connect_memories(self, m, walker, loader, writer):
        lanes = self._lanes
        reads_acc = walker.issue & ~lanes.control.vector
        hold = delayed(m, walker.read_first, self.read_latency, name="hold", reset_less=False)
        m.d.comb += [
            self.r_en.eq(reads_acc),
            self.r_addr.eq(walker.row.acc[: len(self.r_addr)]),
            self.r_group.eq(walker.group),
            self.read.valid.eq(walker.read.valid),
            self.read.p.eq(walker.read.p[: len(self.read.p)]),
            walker.read.ready.eq(self.read.ready),
            lanes.operand.eq(self.data.as_value()[: 8 * lanes.lanes]),
            lanes.hold.eq(hold),
            self.param_en.eq(loader.param_en),
            self.param_addr.eq(loader.param_addr),
            loader.param_data.eq(self.param_data),
            lanes.param_write.eq(loader.write),
            self.write.valid.eq(writer.write.valid),
            self.write.p.eq(writer.write.p),
        ]
        for lane in range(lanes.lanes):
            m.d.comb += lanes.sums[lane].eq(self.r_data[lane])

    def _connect_faults(self, m, job, loader, writer, failed, at_rest):
        """Report the first access outside a memory; parameters only after all earlier rows."""
        outside = loader.outside & at_rest
        start = self.command.p.index
        # The writer speaks three cycles after a row: the next instructions may have begun.
        index = delayed(m, job.index, CHECK_LATENCY - 1, name="fault_index")
        m.d.sync += [
            self.fault_stb.eq(writer.outside | outside),
            self.fault.code.eq(Fault.LOCAL_ADDRESS),
            self.fault.index.eq(Mux(writer.outside, index, start)),
            self.fault.addr.eq(Mux(writer.outside, writer.outside_addr, loader.outside_addr)),
        ]
        m.d.comb += failed.eq(writer.outside | outside)


def _job_layout(config):
    """Return the layout of what the rows of an instruction have in common."""
    return data.StructLayout(
        {
            "control": control_layout(config.cols // config.lanes),
            "index": isa.COUNTER_BITS,
            "uses_params": 1,
        }
    )


def _describe_walk(m, job, drain, vector, is_vector, lanes):
    """Say in loops what a DRAIN or VECTOR does; counts stay minus one, as they are stored."""
    pair = is_vector & (vector.op == isa.VectorOp.ELEMENTWISE)
    m.d.comb += [
        job.vector.eq(is_vector),
        job.operand.eq(is_vector | drain.use_residual),
        job.pair.eq(pair),
    ]
    with m.If(is_vector):
        m.d.comb += [
            job.rows.eq(vector.rows),
            job.count.eq(vector.length),
            job.count_last.eq(vector.length),
            job.narrow.eq(1),
            job.single.eq(1),
            job.short_last.eq(vector.length < lanes),
            job.addr.eq(vector.addr),
            job.row_step.eq(vector.row_step),
            job.a.eq(vector.a),
            job.a_row_step.eq(vector.a_step),
            job.b.eq(vector.b),
            job.b_row_step.eq(vector.b_step),
        ]
    with m.Else():
        m.d.comb += [
            job.rows.eq(drain.rows),
            job.cols.eq(drain.cols),
            job.reduce.eq(drain.reduce),
            job.narrow.eq(drain.cols == 0),
            job.single.eq(drain.reduce == 0),
            job.short.eq(drain.lanes < lanes),
            job.short_last.eq(drain.lanes_last < lanes),
            job.count.eq(drain.lanes),
            job.count_last.eq(drain.lanes_last),
            job.acc.eq(drain.acc),
            job.addr.eq(drain.addr),
            job.row_step.eq(drain.row_step),
            job.col_step.eq(drain.col_step),
            job.b.eq(drain.residual),
            job.b_row_step.eq(drain.residual_row_step),
            job.b_col_step.eq(drain.residual_col_step),
        ]
