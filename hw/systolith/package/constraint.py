"""Timing constraints of the stand-alone accelerator, for Vivado (XDC) and everyone else (SDC)."""

from collections.abc import Iterable

from .port import Port

DEFAULT_CLOCK_MHZ = 100.0
NANOSECONDS_PER_MHZ = 1000.0
_EXTERNAL_SHARE = 0.3
"""Share of a cycle that what is outside of the pins may take."""


def sdc(clock_mhz: float, ports: Iterable[Port]) -> str:
    """Return constraints for the accelerator as the top of a design, with all pins synchronous.

    Only commands are used that every reader of SDC knows; so pins are named one by one.
    """
    period = NANOSECONDS_PER_MHZ / clock_mhz
    outside = f"{_EXTERNAL_SHARE * period:.3f}"
    lines = [
        f"# One clock, {clock_mhz:g} MHz. All pins are synchronous to it, reset included.",
        f"create_clock -name ap_clk -period {period:.3f} [get_ports ap_clk]",
        "",
        f"# What is outside of the pins takes {100 * _EXTERNAL_SHARE:g} % of a cycle.",
    ]
    for port in ports:
        if port.name != "ap_clk":
            command = f"set_{port.direction}put_delay"
            lines.append(f"{command} {outside} -clock ap_clk [get_ports {port.name}]")
    return "\n".join(lines) + "\n"


def xdc(clock_mhz: float) -> str:
    """Return constraints for out-of-context synthesis; a block design has clocks of its own."""
    period = NANOSECONDS_PER_MHZ / clock_mhz
    return f"""\
# For synthesis out of context (USED_IN {{synthesis out_of_context}}): {clock_mhz:g} MHz.
create_clock -name ap_clk -period {period:.3f} [get_ports ap_clk]
"""
