"""Timing constraints of the stand-alone accelerator, for Vivado (XDC) and everyone else (SDC)."""

DEFAULT_CLOCK_MHZ = 100.0
NANOSECONDS_PER_MHZ = 1000.0
_EXTERNAL_SHARE = 0.3
"""Share of a cycle that what is outside of the pins may take."""


def sdc(clock_mhz: float) -> str:
    """Return constraints for the accelerator as the top of a design, with all pins synchronous."""
    period = NANOSECONDS_PER_MHZ / clock_mhz
    outside = f"{_EXTERNAL_SHARE * period:.3f}"
    return f"""\
# One clock, {clock_mhz:g} MHz. All pins are synchronous to it; reset is active low and synchronous.
create_clock -name ap_clk -period {period:.3f} [get_ports ap_clk]

# What is outside of the pins takes {100 * _EXTERNAL_SHARE:g} % of a cycle, in both directions.
set inputs [remove_from_collection [all_inputs] [get_ports ap_clk]]
set_input_delay {outside} -clock ap_clk $inputs
set_output_delay {outside} -clock ap_clk [all_outputs]
"""


def xdc(clock_mhz: float) -> str:
    """Return constraints for out-of-context synthesis; a block design has clocks of its own."""
    period = NANOSECONDS_PER_MHZ / clock_mhz
    return f"""\
# For synthesis out of context (USED_IN {{synthesis out_of_context}}): {clock_mhz:g} MHz.
create_clock -name ap_clk -period {period:.3f} [get_ports ap_clk]
"""
