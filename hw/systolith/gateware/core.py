"""Composition of the accelerator: memories, engines, bus masters, sequencer, registers."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import csr, rules
from systolith.arch.csr import Part
from systolith.arch.isa import Engine, Space

from . import axi
from .accumulator import Accumulators
from .counters import PerformanceCounters
from .csr_bank import CsrBank, register_field, register_value
from .drain import DrainEngine
from .execute import ExecuteEngine
from .load import LoadEngine
from .local_memory import LocalMemory
from .queue import PROGRESS
from .read_master import ReadMaster
from .scratchpad import Scratchpad
from .sequencer import Sequencer
from .store import StoreEngine
from .systolic import sum_shape
from .write_master import WriteMaster


class Core(wiring.Component):
    """The accelerator with its buses as streams.

    Parameters
    ----------
    config : systolith.arch.config.AcceleratorConfig
        The accelerator.

    Members
    -------
    control : ``In(axi.LITE)``
        Registers.
    memory : ``Out(axi.Signature(axi_data_bits))``
        DRAM.
    interrupt : ``Out(1)``
        Level, see the registers `irq_enable` and `irq_status`.
    progress : ``Out(PROGRESS)``
        Instructions completed by each engine, for observers.
    """

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "control": In(axi.LITE),
                "memory": Out(axi.Signature(config.axi_data_bits)),
                "interrupt": Out(1),
                "progress": Out(PROGRESS),
            }
        )

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.csr_bank = bank = CsrBank(constants=csr.constants(config))
        m.submodules.sequencer = sequencer = Sequencer(
            rules=rules.field_rules(config),
            queue_depth=config.queue_depth,
            axi_bytes=config.axi_bytes,
            protected=config.protects_memories,
        )
        wiring.connect(m, wiring.flipped(self.control), bank.bus)
        m.d.comb += [self.interrupt.eq(bank.interrupt), self.progress.eq(sequencer.progress)]

        # Everything but registers and sequencer forgets a program, except contents of memories.
        def add(name, component):
            m.submodules[name] = ResetInserter(sequencer.engine_reset)(component)
            return component

        scratchpad, accumulators = self._memories()
        add("scratchpad", scratchpad)
        add("accumulators", accumulators)
        engines = {
            engine: add(engine.name.lower(), component)
            for engine, component in self._engines(scratchpad, accumulators).items()
        }
        bus = {"data_bits": config.axi_data_bits, "outstanding": config.axi_outstanding}
        reader, writer = add("reader", ReadMaster(**bus)), add("writer", WriteMaster(**bus))

        self._connect_bus(m, reader, writer, engines, sequencer, bank)
        weights, params = self._connect_load(m, engines, scratchpad)
        self._connect_execute(m, engines[Engine.EXECUTE], scratchpad, accumulators)
        self._connect_drain(m, engines[Engine.DRAIN], scratchpad, accumulators)
        self._connect_sequencer(m, sequencer, engines, bank)
        m.d.comb += sequencer.bus_idle.eq(reader.idle & writer.idle)
        self._connect_counters(m, sequencer, engines, reader, writer, bank)
        if config.protects_memories:
            memories = {
                Part.SCRATCHPAD: scratchpad,
                Part.WEIGHTS: weights,
                Part.PARAMS: params,
                Part.ACCUMULATORS: accumulators,
                Part.DRAIN: engines[Engine.DRAIN],
            }
            errors = {part: memory.soft_error for part, memory in memories.items()}
            self._connect_soft_errors(m, sequencer, engines[Engine.EXECUTE], errors)
        return m

    def _connect_soft_errors(self, m, sequencer, execute, errors):
        """Tell the sequencer of the first part, in the order of `Part`, that noticed an error."""
        errors |= {Part.QUEUES: execute.queue_error}
        if self.config.protects_array:
            errors |= {Part.ARRAY: execute.sum_error}
        if self.config.protects_activations:
            errors |= {Part.ACTIVATIONS: execute.activation_error}
        for part in sorted(errors, reverse=True):
            with m.If(errors[part]):
                m.d.comb += sequencer.soft_error.eq(int(part))

    def _memories(self):
        """Return a new scratchpad and new accumulators."""
        config = self.config
        scratchpad = Scratchpad(
            config.scratchpad_bytes,
            config.word_bytes,
            config.banks,
            config.feeds,
            protected=config.protects_memories,
            registered=config.deep_pipeline,
        )
        accumulators = Accumulators(
            cols=config.cols,
            bank_rows=config.acc_rows,
            lanes=config.lanes,
            sum_shape=sum_shape(config.rows),
            protected=config.protects_memories,
        )
        return scratchpad, accumulators

    def _engines(self, scratchpad, accumulators):
        """Return new engines with the latencies of their neighbors."""
        config = self.config
        return {
            Engine.LOAD: LoadEngine(config, scratchpad.write_latency),
            Engine.EXECUTE: ExecuteEngine(config, read_latency=scratchpad.read_latency),
            Engine.DRAIN: DrainEngine(
                config,
                acc_read_latency=accumulators.read_latency,
                read_latency=scratchpad.read_latency,
                write_latency=scratchpad.write_latency,
            ),
            Engine.STORE: StoreEngine(config, scratchpad.read_latency),
        }

    def _connect_bus(self, m, reader, writer, engines, sequencer, bank):
        """Connect the masters to the bus and to fetch, LOAD and STORE."""
        load, store = engines[Engine.LOAD], engines[Engine.STORE]
        memory = wiring.flipped(self.memory)
        for master, channels in ((reader, "ar"), (writer, "aw"), (writer, "w")):
            wiring.connect(m, getattr(master, channels), getattr(memory, channels))
        wiring.connect(m, memory.r, reader.r)
        wiring.connect(m, memory.b, writer.b)
        wiring.connect(m, sequencer.fetch_request, reader.fetch_request)
        wiring.connect(m, reader.fetch_data, sequencer.fetch_data)
        wiring.connect(m, load.request, reader.load_request)
        wiring.connect(m, reader.load_data, load.beats)
        wiring.connect(m, store.request, writer.request)
        wiring.connect(m, writer.beats, store.beats)
        wiring.connect(m, store.bus_data, writer.data)
        wiring.connect(m, reader.load_region, bank.load_region)
        wiring.connect(m, writer.region, bank.store_region)
        m.d.comb += [
            reader.fetch_region.eq(bank.first_region),
            reader.stop.eq(sequencer.stop),
            writer.stop.eq(sequencer.stop),
            store.bus_done.eq(writer.done),
            store.bus_error.eq(writer.error),
            store.bus_error_addr.eq(writer.error_addr),
        ]

    def _connect_load(self, m, engines, scratchpad):
        """Distribute what LOAD writes to the local memories, and connect what STORE reads.

        Return the weight buffer and the parameter memory.
        """
        config = self.config
        load, execute, drain = (engines[e] for e in (Engine.LOAD, Engine.EXECUTE, Engine.DRAIN))
        sizes = {"word_bytes": config.weight_word_bytes, "beat_bytes": config.axi_bytes}
        sizes["protected"] = config.protects_memories
        m.submodules.weights = weights = LocalMemory(size_bytes=config.weight_bytes, **sizes)
        m.submodules.params = params = LocalMemory(size_bytes=config.param_bytes, **sizes)
        m.d.comb += [
            weights.en.eq(execute.weight_en),
            weights.addr.eq(execute.weight_addr),
            execute.weight_data.eq(weights.data),
            params.en.eq(drain.param_en),
            params.addr.eq(drain.param_addr),
            drain.param_data.eq(params.data),
        ]
        targets = {
            Space.SCRATCHPAD: scratchpad.load_write,
            Space.WEIGHTS: weights.write,
            Space.PARAMS: params.write,
            Space.TABLES: drain.table_write,
        }
        with m.Switch(load.write.p.space):
            for space, target in targets.items():
                m.d.comb += [
                    target.p.addr.eq(load.write.p.addr),
                    # The window of the scratchpad may be wider than a beat.
                    target.p.data.eq(load.write.p.data.as_value()),
                    target.p.mask.eq(load.write.p.mask),
                ]
                with m.Case(int(space)):
                    m.d.comb += [
                        target.valid.eq(load.write.valid),
                        load.write.ready.eq(target.ready),
                    ]
        store = engines[Engine.STORE]
        wiring.connect(m, store.read, scratchpad.store_read)
        m.d.comb += [
            store.data.eq(scratchpad.store_data.as_value()),
            store.data_valid.eq(scratchpad.store_data_valid),
        ]
        return weights, params

    def _connect_execute(self, m, execute, scratchpad, accumulators):
        for feed in range(self.config.feeds):
            m.d.comb += [
                scratchpad.feed_en[feed].eq(execute.feed_en[feed]),
                scratchpad.feed_addr[feed].eq(execute.feed_addr[feed]),
                execute.feed_data[feed].eq(scratchpad.feed_data[feed]),
            ]
        m.d.comb += [
            execute.feed_conflict.eq(scratchpad.conflict),
            execute.acc_conflict.eq(accumulators.conflict),
            accumulators.w_en.eq(execute.w_en),
            accumulators.w_addr.eq(execute.w_addr),
            accumulators.w_op.eq(execute.w_op),
        ]
        for col in range(self.config.cols):
            m.d.comb += accumulators.sums[col].eq(execute.sums[col])

    def _connect_drain(self, m, drain, scratchpad, accumulators):
        wiring.connect(m, drain.read, scratchpad.drain_read)
        wiring.connect(m, drain.write, scratchpad.drain_write)
        m.d.comb += [
            drain.data.eq(scratchpad.drain_data),
            accumulators.r_en.eq(drain.r_en),
            accumulators.r_addr.eq(drain.r_addr),
            accumulators.r_group.eq(drain.r_group),
        ]
        for lane in range(self.config.lanes):
            m.d.comb += drain.r_data[lane].eq(accumulators.r_data[lane])

    def _connect_sequencer(self, m, sequencer, engines, bank):
        """Connect commands and reports of the engines, and what software sees of a program."""
        for engine, component in engines.items():
            wiring.connect(m, sequencer.commands[engine], component.command)
            # An engine may hear of the end a cycle late: all it could begin is forgotten with it.
            m.d.sync += component.stop.eq(sequencer.stop)
            m.d.comb += [
                sequencer.engine_done[engine].eq(component.done),
                sequencer.engine_fault[engine].eq(component.fault),
                sequencer.engine_fault_stb[engine].eq(component.fault_stb),
                sequencer.engine_idle[engine].eq(component.idle),
                bank.state[f"progress_{engine.name.lower()}"].eq(sequencer.progress[engine]),
            ]
        setting, control, fault = bank.setting, bank.command.control, sequencer.fault
        m.d.comb += [
            engines[Engine.EXECUTE].progress.eq(sequencer.progress),
            sequencer.start.eq(register_field("control", "start", control)),
            sequencer.abort.eq(register_field("control", "abort", control)),
            sequencer.region.eq(bank.first_region),
            sequencer.program_offset.eq(setting.program_offset),
            sequencer.program_count.eq(setting.program_count),
            sequencer.watchdog.eq(setting.watchdog),
            bank.busy.eq(sequencer.busy),
            bank.event.irq_status.eq(
                register_value("irq_status", done=sequencer.done_stb, fault=sequencer.fault_stb)
            ),
            bank.state.status.eq(
                register_value(
                    "status", busy=sequencer.busy, done=sequencer.done, fault=sequencer.faulted
                )
            ),
            bank.state.fault.eq(register_value("fault", code=fault.code, engine=fault.engine)),
            bank.state.fault_index.eq(fault.index),
            Cat(bank.state.fault_addr_lo, bank.state.fault_addr_hi).eq(fault.addr),
        ]

    def _connect_counters(self, m, sequencer, engines, reader, writer, bank):
        config = self.config
        m.submodules.counters = counters = PerformanceCounters(axi_bytes=config.axi_bytes)
        load, execute, drain, store = (engines[Engine(n)] for n in range(len(engines)))
        events = counters.events
        wait_load = sequencer.waiting[Engine.EXECUTE][Engine.LOAD]
        m.d.comb += [
            counters.clear.eq(sequencer.clear),
            counters.enable.eq(sequencer.running),
            events.array_busy.eq(execute.streaming),
            events.execute_wait_load.eq(execute.idle_command & wait_load),
            events.execute_wait_drain.eq(execute.wait_drain),
            events.execute_wait_store.eq(execute.wait_store),
            events.execute_wait_weights.eq(execute.wait_weights),
            events.execute_idle.eq(execute.idle_command & ~wait_load),
            events.drain_busy.eq(drain.busy),
            events.drain_wait_port.eq(drain.wait_port),
            events.load_busy.eq(load.busy),
            events.load_wait_port.eq(load.wait_port),
            events.store_busy.eq(store.busy),
            events.read_bytes.eq(Mux(reader.read_beat, config.axi_bytes, 0)),
            events.write_bytes.eq(writer.write_bytes),
        ]
        m.d.comb += [
            bank.state[name].eq(counters.values[name]) for name in counters.values.shape().members
        ]
