"""Rotation of words by whole bytes."""

from amaranth.hdl import Mux


def rotate_right(value, amount, *, unit_bits):
    """Return `value` with unit `i + amount` at place i; a logarithmic chain of multiplexers."""
    for level in range(len(amount)):
        value = Mux(amount[level], value.rotate_right(unit_bits << level), value)
    return value


def rotate_left(value, amount, *, unit_bits):
    """Return `value` with unit i at place `i + amount`; a logarithmic chain of multiplexers."""
    for level in range(len(amount)):
        value = Mux(amount[level], value.rotate_left(unit_bits << level), value)
    return value
