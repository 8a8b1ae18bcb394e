"""Delay lines: values that travel with a wave through the array and its surroundings."""

from amaranth.hdl import Signal, Value


def delay_line(m, value, cycles, *, name, reset_less=True):
    """Return `value` delayed by 0 to `cycles` cycles, as a list of `cycles + 1` values.

    Parameters
    ----------
    m : Module
        Where the registers are added, in domain `sync`.
    value : ValueLike
        What is delayed.
    cycles : int
        Longest delay.
    name : str
        Stem of the registers' names.
    reset_less : bool
        Whether the registers ignore the reset: data does, valid bits must not.
    """
    value = Value.cast(value)
    taps = [value]
    for cycle in range(1, cycles + 1):
        stage = Signal(value.shape(), name=f"{name}_{cycle}", reset_less=reset_less)
        m.d.sync += stage.eq(taps[-1])
        taps.append(stage)
    return taps


def delayed(m, value, cycles, *, name, reset_less=True):
    """Return `value` delayed by `cycles` cycles; see :func:`delay_line`."""
    return delay_line(m, value, cycles, name=name, reset_less=reset_less)[-1]
