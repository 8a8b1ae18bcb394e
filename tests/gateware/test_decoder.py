"""Decoder against the rules of the contract, for legal, random and broken words."""

import dataclasses

import pytest
from amaranth.sim import Simulator

from systolith.arch import isa, rules
from systolith.arch.csr import Fault
from systolith.arch.errors import EncodingError
from systolith.arch.presets import PRESETS
from systolith.gateware.decoder import Decoder, stored_range


def judge(word, config):
    """Return engine and fault of a word, by `systolith.arch` alone; None if any engine will do."""
    opcode = word & 0xFF
    if opcode not in isa.INSTRUCTIONS:
        return None, Fault.ILLEGAL_OPCODE
    cls = isa.INSTRUCTIONS[opcode]
    names = dict(cls.layout())
    used = isa.INSTRUCTION_BITS - names.get("reserved", 0)
    if word >> used:
        return None, Fault.RESERVED_BITS
    try:
        rules.check(isa.decode(word), config)
    except EncodingError:
        return None, Fault.FIELD_RANGE
    return cls.ENGINE, Fault.NONE


def decode_all(words, config):
    """Return (engine, fault, index, word) of each word, at full rate."""
    dut = Decoder(rules=rules.field_rules(config))
    results = []

    async def scenario(ctx):
        ctx.set(dut.o.ready, 1)
        ctx.set(dut.i.valid, 1)
        for n, word in enumerate([*words, 0]):
            ctx.set(dut.i.p.word, word)
            ctx.set(dut.i.p.index, n)
            assert ctx.get(dut.i.ready)
            if n:
                assert ctx.get(dut.o.valid)
                o = ctx.get(dut.o.p)
                results.append((o.engine, o.fault, o.index, o.word))
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(scenario)
    simulator.run()
    return results


def check(words, config):
    faults = []
    results = decode_all(words, config)
    for n, (word, result) in enumerate(zip(words, results, strict=True)):
        engine, fault = judge(word, config)
        assert result[1:] == (fault, n, word), f"word {n} {word:064x}"
        assert engine is None or result[0] == engine
        faults.append(fault)
    return faults


def edge_values(metadata, rule, config):
    low, high = isa.field_range(metadata)
    values = {low, high, 0, 1}
    if rule is not None:
        values |= {rule.low - 1, rule.low, rule.low + 1}
        if not isinstance(rule.high, str):
            values |= {rule.high - 1, rule.high, rule.high + 1}
    return [value for value in values if low <= value <= high]


@pytest.mark.parametrize("name", ["tiny-4x4", "edge-8x16", "edge-16x16"])
def test_every_field_at_the_edges_of_its_range(name):
    config = PRESETS[name]
    all_rules = rules.field_rules(config)
    words = []
    for opcode, cls in isa.INSTRUCTIONS.items():
        for f in dataclasses.fields(cls):
            of_field = [r for r in all_rules if (r.opcode, r.field) == (opcode, f.name)]
            for rule in of_field or [None]:
                for op in rule.ops if rule and rule.ops else [None]:
                    operation = {} if op is None else {"op": op}
                    words += [
                        cls(**operation, **{f.name: value}).encode()
                        for value in edge_values(f.metadata, rule, config)
                    ]
    faults = check(words, config)
    assert {Fault.NONE, Fault.FIELD_RANGE} == set(faults)


def test_field_limited_by_another_field(rng):
    pairs = [*rng.integers(1, 2049, (40, 2)).tolist(), [5, 5], [6, 5], [2048, 2047], [1, 1]]
    words = [isa.Pass(cols=cols, line_vectors=vectors).encode() for cols, vectors in pairs]
    faults = check(words, PRESETS["tiny-4x4"])
    expected = [Fault.FIELD_RANGE if c > v else Fault.NONE for c, v in pairs]
    assert faults == expected


def test_every_reserved_bit_and_every_opcode():
    words = list(range(256))
    for cls in isa.INSTRUCTIONS.values():
        reserved = dict(cls.layout()).get("reserved", 0)
        words += [
            cls().encode() | 1 << bit
            for bit in range(isa.INSTRUCTION_BITS - reserved, isa.INSTRUCTION_BITS)
        ]
    faults = check(words, PRESETS["tiny-4x4"])
    assert faults.count(Fault.ILLEGAL_OPCODE) == 256 - len(isa.INSTRUCTIONS)


def test_random_words(rng):
    opcodes = [int(opcode) for opcode in isa.INSTRUCTIONS]
    words = [
        int.from_bytes(rng.bytes(32), "little") & ~0xFF | opcodes[rng.integers(len(opcodes))]
        for _ in range(200)
    ]
    used = {
        opcode: isa.INSTRUCTION_BITS - dict(cls.layout()).get("reserved", 0)
        for opcode, cls in isa.INSTRUCTIONS.items()
    }
    words += [word & ((1 << used[word & 0xFF]) - 1) for word in words]
    check(words, PRESETS["edge-8x16"])


def test_output_waits_without_loss():
    dut = Decoder(rules=())

    async def scenario(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.i.p.word, isa.Load().encode())
        await ctx.tick()
        ctx.set(dut.i.p.word, isa.Store().encode())
        for _ in range(3):
            assert ctx.get(dut.o.valid) and not ctx.get(dut.i.ready)
            assert ctx.get(dut.o.p.engine) == isa.Engine.LOAD
            await ctx.tick()
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        assert ctx.get(dut.o.p.engine) == isa.Engine.STORE

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(scenario)
    simulator.run()


def test_bounds_that_the_field_cannot_pass_need_no_hardware():
    rule = rules.Rule(isa.Opcode.GEOMETRY, "lanes", 1, 64)
    bounds = stored_range(isa.Geometry, rule)
    assert (bounds.low, bounds.high) == (None, None)
    rule = rules.Rule(isa.Opcode.GEOMETRY, "lanes", 1, 16)
    bounds = stored_range(isa.Geometry, rule)
    assert (bounds.low, bounds.high) == (None, 15)
