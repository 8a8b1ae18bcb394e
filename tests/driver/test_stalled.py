"""What is said of a program that the watchdog stopped."""

from systolith.arch.isa import Drain, Engine, Geometry, Halt, Load, Pass, Store
from systolith.driver.stalled import stalls

ITEMS = (
    Load(region=2, offset=3, run=8, run_step=8, total=8, segment=8),
    Load(region=1, wait_store=0),
    Geometry(),
    Pass(wait_load=1),
    Drain(wait_execute=0),
    Store(region=3, wait_drain=0, run=4, run_step=4, total=4, segment=4, offset=100),
    Halt(),
)
CODE = b"".join(item.to_bytes() for item in ITEMS)


def at(*progress, decoded=7, code=CODE):
    return [(stall.engine, stall.index) for stall in stalls(code, progress, decoded)]


def test_instructions_that_wait_for_others_are_not_named():
    assert at(0, 0, 0, 0) == [(Engine.LOAD, 0), (Engine.EXECUTE, 2)]
    assert at(0, 1, 0, 0) == [(Engine.LOAD, 0)]
    assert at(1, 1, 0, 0) == [(Engine.LOAD, 1), (Engine.EXECUTE, 3)]
    assert at(2, 2, 1, 0) == [(Engine.STORE, 5)]


def test_what_was_not_decoded_was_still_to_be_fetched():
    assert at(0, 0, 0, 0, decoded=0) == [(Engine.SEQUENCER, 0)]
    assert at(2, 2, 1, 0, decoded=5) == [(Engine.SEQUENCER, 5)]
    assert at(2, 0, 0, 0, decoded=6, code=CODE[:64] + b"\xff" * 32) == [(Engine.SEQUENCER, 6)]
    assert at(0, 0, 0, 0, code=CODE[:32] + b"\xff" * 32) == [(Engine.LOAD, 0)]


def test_text_names_engine_instruction_bytes_and_channel():
    (load, passes) = stalls(CODE, (0, 0, 0, 0), 7)
    assert str(load).startswith("LOAD at instruction 0 (load region=2 offset=3 ")
    assert str(load).endswith("bytes 3 to 10 of region 2 on the read channel")
    assert str(passes) == "EXECUTE at instruction 2 (geometry)"
    (store,) = stalls(CODE, (2, 2, 1, 0), 7)
    assert str(store).endswith("bytes 100 to 103 of region 3 on the write channel")
    assert (load.channel, passes.channel, store.channel) == ("read", None, "write")
    (fetch,) = stalls(CODE, (2, 2, 1, 0), 4)
    assert str(fetch) == "the fetch of instruction 4 on the read channel"
