"""Pins and clock of a board around :class:`~systolith.boards.top.BoardTop`."""

from dataclasses import dataclass

from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    Signal,
)
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from systolith.arch.errors import ConfigError

from .top import BoardTop


@dataclass(frozen=True)
class PllLimits:
    """What a PLL can do: divider of its input, multiplier, divider of its output, oscillator."""

    input_divider: int
    multiplier: int
    output_divider: int
    phase_min_hz: int
    vco_min_hz: int
    vco_max_hz: int
    output_in_feedback: bool
    """The feedback comes from the output, behind its divider."""


PLL = {
    "ecp5": PllLimits(128, 80, 128, 3_125_000, 400_000_000, 800_000_000, True),
    "xc7": PllLimits(56, 64, 128, 19_000_000, 800_000_000, 1_600_000_000, False),
}
"""From the vendors' data sheets, for the slowest speed grade."""


@dataclass(frozen=True)
class PllSettings:
    """Dividers of a PLL."""

    input_divider: int
    multiplier: int
    output_divider: int


def pll_settings(family, input_hz, output_hz):
    """Return the dividers that make exactly one frequency of another.

    Raises
    ------
    ConfigError
        There are none.
    """
    limits = PLL[family]
    for divider in range(1, limits.input_divider + 1):
        if input_hz < divider * limits.phase_min_hz:
            break
        for output_divider in range(1, limits.output_divider + 1):
            vco = output_hz * output_divider
            if not limits.vco_min_hz <= vco <= limits.vco_max_hz:
                continue
            fed_back = output_hz if limits.output_in_feedback else vco
            multiplier, rest = divmod(fed_back * divider, input_hz)
            if rest == 0 and 1 <= multiplier <= limits.multiplier:
                return PllSettings(divider, multiplier, output_divider)
    raise ConfigError(
        f"Clock must be a frequency that the PLL of {family} makes of {input_hz / 1e6:g} MHz, "
        f"not {output_hz / 1e6:g} MHz"
    )


def _pll_ecp5(settings, input_hz, output_hz, clock_in, clock_out, locked):
    return Instance(
        "EHXPLLL",
        a_FREQUENCY_PIN_CLKI=f"{input_hz / 1e6:g}",
        a_FREQUENCY_PIN_CLKOP=f"{output_hz / 1e6:g}",
        a_ICP_CURRENT="12",
        a_LPF_RESISTOR="8",
        a_MFG_ENABLE_FILTEROPAMP="1",
        a_MFG_GMCREF_SEL="2",
        p_PLLRST_ENA="DISABLED",
        p_INTFB_WAKE="DISABLED",
        p_STDBY_ENABLE="DISABLED",
        p_DPHASE_SOURCE="DISABLED",
        p_OUTDIVIDER_MUXA="DIVA",
        p_OUTDIVIDER_MUXB="DIVB",
        p_OUTDIVIDER_MUXC="DIVC",
        p_OUTDIVIDER_MUXD="DIVD",
        p_FEEDBK_PATH="CLKOP",
        p_CLKI_DIV=settings.input_divider,
        p_CLKFB_DIV=settings.multiplier,
        p_CLKOP_ENABLE="ENABLED",
        p_CLKOP_DIV=settings.output_divider,
        p_CLKOP_CPHASE=settings.output_divider // 2,
        p_CLKOP_FPHASE=0,
        i_CLKI=clock_in,
        i_CLKFB=clock_out,
        i_RST=Const(0),
        i_STDBY=Const(0),
        i_PHASESEL0=Const(0),
        i_PHASESEL1=Const(0),
        i_PHASEDIR=Const(1),
        i_PHASESTEP=Const(1),
        i_PHASELOADREG=Const(1),
        i_PLLWAKESYNC=Const(0),
        i_ENCLKOP=Const(0),
        o_CLKOP=clock_out,
        o_LOCK=locked,
    )


def _pll_xc7(settings, input_hz, _output_hz, clock_in, clock_out, locked):
    feedback = Signal()
    return Instance(
        "PLLE2_BASE",
        p_CLKIN1_PERIOD=1e9 / input_hz,
        p_DIVCLK_DIVIDE=settings.input_divider,
        p_CLKFBOUT_MULT=settings.multiplier,
        p_CLKOUT0_DIVIDE=settings.output_divider,
        i_CLKIN1=clock_in,
        i_CLKFBIN=feedback,
        o_CLKFBOUT=feedback,
        i_RST=Const(0),
        i_PWRDWN=Const(0),
        o_CLKOUT0=clock_out,
        o_LOCKED=locked,
    )


_PLL_INSTANCE = {"ecp5": _pll_ecp5, "xc7": _pll_xc7}


class BoardWrapper(Elaboratable):
    """The design that is built for a board: PLL, reset until it has locked, UART, one LED.

    Parameters
    ----------
    board : systolith.boards.base.Board
        The board.
    config : systolith.arch.config.AcceleratorConfig
        The accelerator.
    clock_hz : int
        Frequency of the accelerator.
    """

    def __init__(self, board, config, clock_hz):
        self._board, self._clock_hz = board, clock_hz
        self._settings = pll_settings(board.device.family, board.oscillator_hz, clock_hz)
        self._top = BoardTop(
            config, clock_hz=clock_hz, baud=board.baud, memory_bytes=board.memory_bytes
        )

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain()
        clock, locked = Signal(name="pll_clock"), Signal()
        pin = platform.request(platform.default_clk, dir="-")
        m.submodules.clock_pin = clock_pin = io.Buffer("i", pin)
        make_pll = _PLL_INSTANCE[self._board.device.family]
        m.submodules.pll = make_pll(
            self._settings,
            self._board.oscillator_hz,
            self._clock_hz,
            clock_pin.i,
            clock,
            locked,
        )
        platform.add_clock_constraint(clock, self._clock_hz)
        m.d.comb += ClockSignal().eq(clock)
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")

        m.submodules.top = top = self._top
        uart = platform.request("uart", 0, dir="-")
        led = platform.request("led", 0, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.submodules.led = status = io.Buffer("o", led)
        m.d.comb += [top.rx.eq(rx.i), tx.o.eq(top.tx), status.o.eq(top.led)]
        return m
