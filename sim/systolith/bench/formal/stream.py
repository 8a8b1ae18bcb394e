"""The contract of a stream: what is valid stays, unchanged, until it is taken."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from amaranth.hdl import Value, ValueLike
from amaranth.lib import stream, wiring

from .monitor import Monitor, implies


def streams_of(component: wiring.Component) -> Iterator[tuple[str, wiring.Flow, Any]]:
    """Yield name, flow of the payload and object of each stream of a component."""
    for name, member in component.signature.members.items():
        if member.is_signature:
            yield from _streams(
                name, member.signature, member.flow, member.dimensions, getattr(component, name)
            )


def _streams(
    name: str, signature: Any, flow: wiring.Flow, dimensions: tuple[int, ...], port: Any
) -> Iterator[tuple[str, wiring.Flow, Any]]:
    if dimensions:
        for index, element in enumerate(port):
            yield from _streams(f"{name}{index}", signature, flow, dimensions[1:], element)
    elif isinstance(signature, stream.Signature):
        yield name, flow, port
    else:
        for inner, member in signature.members.items():
            # The signature of an input is flipped already.
            if member.is_signature:
                yield f"{name}_{inner}", member.flow, getattr(port, inner)


def suppose_stream(
    t: Monitor, name: str, port: Any, *, unless: ValueLike = 0, payload: ValueLike | None = None
) -> None:
    """Suppose that the other side keeps the contract."""
    stays, same = _contract(t, port, unless, payload)
    t.suppose(f"{name}_valid_stays", stays)
    t.suppose(f"{name}_payload_stays", same)


def expect_stream(
    t: Monitor, name: str, port: Any, *, unless: ValueLike = 0, payload: ValueLike | None = None
) -> None:
    """Require that this side keeps the contract, and that a transfer after a wait is possible."""
    stays, same = _contract(t, port, unless, payload)
    t.expect(f"{name}_valid_stays", stays)
    t.expect(f"{name}_payload_stays", same)
    waited = t.was_live & t.past(port.valid & ~port.ready)
    t.reach(f"{name}_waits_and_transfers", waited & port.valid & port.ready)


def _contract(
    t: Monitor, port: Any, unless: ValueLike, payload: ValueLike | None
) -> tuple[Value, Value]:
    off = Value.cast(unless).bool()
    waits = t.was_live & t.past(port.valid & ~port.ready & ~off) & ~off
    payload = Value.cast(port.payload if payload is None else payload)
    return implies(waits, port.valid), implies(waits, payload == t.past(payload))


def add_contracts(
    t: Monitor,
    *,
    unless: Mapping[str, ValueLike] | None = None,
    payloads: Mapping[str, ValueLike] | None = None,
    without: Collection[str] = (),
) -> None:
    """Suppose the contract of every input stream, and require that of every output stream.

    Parameters
    ----------
    t : Monitor
        Monitor of the component.
    unless : mapping of str to value
        Condition, by name of the stream, on which it may be withdrawn.
    payloads : mapping of str to value
        What must stay unchanged, by name of the stream, where it is not the whole payload.
    without : collection of str
        Streams that are proven elsewhere, or promise less; the case says which.
    """
    unless, payloads = unless or {}, payloads or {}
    for name, flow, port in streams_of(t.dut):
        if name in without:
            continue
        add = expect_stream if flow is wiring.Out else suppose_stream
        add(t, name, port, unless=unless.get(name, 0), payload=payloads.get(name))
