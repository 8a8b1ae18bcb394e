"""One accelerator behind a transport: identity, memory map, doorbell, faults, counters."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from systolith.arch import csr
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import DeviceError, DeviceFault, DeviceTimeout, ProgramError
from systolith.arch.isa import ISA_VERSION, REGION_COUNT
from systolith.arch.program import REGION_PERMISSIONS, AcceleratorSegment, Program, Region

from .faults import check_end
from .scrub import scrub_program
from .timeout import DEFAULT_CLOCK_HZ, Allowance, allowance
from .transport import Event, HasClock, HasTimeline, Transport
from .validate import WATCHDOG_CYCLES, check_program

REGION_ALIGNMENT = 4096
"""Regions start on pages, so that a burst of one region never touches another's page."""

ABORT_TIMEOUT_S = 10.0
"""Time in which a device must stop when it is asked to."""

_LOG = logging.getLogger(__name__)
_EVENTS = csr.pack("irq_enable", done=1, fault=1)
_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class SegmentResult:
    """What one run of a segment gave.

    Parameters
    ----------
    outputs : bytes
        Contents of the OUTPUT region.
    cycles : int or None
        Cycles from the doorbell to done; None if the device counts none.
    counters : mapping of str to int
        Performance counters by the names of `systolith.arch.csr.COUNTERS`.
    timeline : sequence of Event
        Completions of instructions; empty if the device does not tell.
    """

    outputs: bytes
    cycles: int | None
    counters: Mapping[str, int]
    timeline: Sequence[Event]


class Device:
    """Accelerator that runs the segments of one loaded program at a time.

    Whoever had it before may have ended at any point, even in the middle of a run: what still runs
    is stopped, and what it has reported is forgotten, before anything else is done.

    Parameters
    ----------
    transport : Transport
        Way to the device; closed with this object.
    config : AcceleratorConfig, optional
        Machine that the device must be. By default, any: programs are checked when loaded.
    timeout_s : float, optional
        Seconds that a segment may take before it is stopped. By default, what follows from the
        cycles that the compiler predicted, see :func:`systolith.driver.timeout.allowance`; for
        programs without prediction, `systolith.driver.timeout.UNPREDICTED_S`.
    validate : bool
        Whether programs are checked before they are loaded. Without that, it is the hardware that
        stops what is not legal, which is how its walls are tested.
    scrub : bool
        Whether others use the device before or after: memories on the chip and DRAM are then cleared
        before the first program is loaded, and when the device is closed.

    Raises
    ------
    DeviceError
        The device is no Systolith, has another instruction set, or is of another configuration.
    DeviceTimeout
        It was busy, and cannot be stopped.
    """

    def __init__(
        self,
        transport: Transport,
        config: AcceleratorConfig | None = None,
        *,
        timeout_s: float | None = None,
        validate: bool = True,
        scrub: bool = False,
    ) -> None:
        self._transport = transport
        self._validate = validate
        self._scrubs = scrub
        self._scrub_program: Program | None = None
        self._timeout_s = timeout_s
        self._program: Program | None = None
        self._bases: dict[Region, int] = {}
        self._code_offsets: dict[int, int] = {}
        self._code_bytes = 0
        clock = transport.clock_hz if isinstance(transport, HasClock) else None
        self._clock_hz = DEFAULT_CLOCK_HZ if clock is None else clock
        self._check_identity()
        self._soft_errors = 0
        # What was never written may have any parity.
        self._cleared = not csr.field_value("cap_queue", "protection", self._read("cap_queue"))
        self._stop()
        if config is not None and config.digest != self.digest:
            raise DeviceError(
                f'Device must be of configuration "{config.name}" (digest {config.digest:016x}), '
                f"not of digest {self.digest:016x}: {self._difference(config)}; "
                f"open it with the configuration that it was generated from"
            )

    @property
    def digest(self) -> int:
        """Digest of the device's configuration, from its registers."""
        return self._read("digest_lo") | self._read("digest_hi") << 32

    @property
    def soft_errors(self) -> int:
        """Runs that a soft error has ended, and that were repeated."""
        return self._soft_errors

    def load(self, program: Program) -> None:
        """Put code and constants of a program into the device's memory, unless they are there.

        Raises
        ------
        ProgramError
            The program was compiled for another configuration, or, as `ValidationError`, an
            instruction reaches for what it may not have.
        DeviceError
            The program needs more memory than the device has.
        """
        if program is self._program:
            return
        self._check_program(program)
        if self._validate:
            check_program(program)
        self._stop()
        if self._scrubs and self._scrub_program is None:
            self._scrub_program = scrub_program(program.config, self._room(), REGION_ALIGNMENT)
            self._cleared = True
            self._scrub()
        elif not self._cleared:
            self._cleared = True
            self.load(scrub_program(program.config, 0, REGION_ALIGNMENT))
            self._attempt(0, {})
        self._program = None
        code = self._place_code(program)
        segments = [s for s in program.segments if isinstance(s, AcceleratorSegment)]
        self._allocate(
            {
                Region.PROGRAM: len(code),
                Region.CONSTANTS: len(program.constants),
                Region.INPUT: max((s.input_bytes for s in segments), default=0),
                Region.OUTPUT: max((s.output_bytes for s in segments), default=0),
                Region.ARENA: max((s.arena_bytes for s in segments), default=0),
            }
        )
        self._transport.write_memory(self._bases[Region.PROGRAM], code)
        self._transport.write_memory(self._bases[Region.CONSTANTS], program.constants)
        self._program = program

    def run(self, segment_index: int, inputs: Mapping[int, bytes]) -> SegmentResult:
        """Run one accelerator segment of the loaded program from doorbell to done.

        If the device notices a soft error, its memories are cleared, code, constants and inputs are
        written anew, and the segment runs once more.

        Parameters
        ----------
        segment_index : int
            Index in `Program.segments`.
        inputs : mapping of int to bytes
            Contents of the INPUT region by byte offset.

        Raises
        ------
        DeviceFault
            The accelerator stopped with a fault. The next run is not affected.
        RunTimeout
            It did not end in time, and was stopped. The next run is not affected.
        DeviceTimeout
            It did not even stop.
        ProgramError
            No program is loaded.
        """
        try:
            return self._attempt(segment_index, inputs)
        except DeviceFault as fault:
            if fault.code != csr.Fault.SOFT_ERROR:
                raise
            self._soft_errors += 1
            _LOG.warning("%s; it is run once more", fault)
        # The bit may be where the program reads without writing, beside what it wants.
        program, self._program, self._cleared = self._program, None, False
        assert program is not None
        self.load(program)
        return self._attempt(segment_index, inputs)

    def _attempt(self, segment_index: int, inputs: Mapping[int, bytes]) -> SegmentResult:
        """Run a segment once; whatever goes wrong, the device is idle afterwards."""
        if self._program is None:
            raise ProgramError("A program must be loaded before one of its segments can run")
        segment = self._program.segments[segment_index]
        assert isinstance(segment, AcceleratorSegment)
        # After a watchdog fault, bursts of the last run may still be due.
        self._stop()
        self._map_regions(segment)
        for offset, data in inputs.items():
            self._transport.write_memory(self._bases[Region.INPUT] + offset, data)
        self._start(segment_index, segment)
        self._await_end(segment_index, segment)
        check_end(self._read, segment.code, self._program.model)
        timeline = self._transport.timeline() if isinstance(self._transport, HasTimeline) else ()
        return SegmentResult(
            outputs=self._transport.read_memory(self._bases[Region.OUTPUT], segment.output_bytes),
            cycles=self._read("cycles") or None,
            counters={name: self._read(name) for name, _ in csr.COUNTERS},
            timeline=timeline,
        )

    def close(self) -> None:
        """Release the device, cleared if others may use it."""
        try:
            if self._scrub_program is not None:
                self._scrub()
        finally:
            self._transport.close()

    def _scrub(self) -> None:
        """Clear the device, by the program made for it when the first program was loaded."""
        assert self._scrub_program is not None
        self.load(self._scrub_program)
        self.run(0, {})

    def _read(self, register: str) -> int:
        return self._transport.read_register(csr.BY_NAME[register].addr)

    def _write(self, register: str, value: int) -> None:
        self._transport.write_register(csr.BY_NAME[register].addr, value & _WORD)

    def _check_identity(self) -> None:
        identity = self._read("id")
        if identity != csr.ID_VALUE:
            raise DeviceError(
                f"Device must identify itself as {csr.ID_VALUE:#010x}, not {identity:#010x}; "
                f"check its address, and that the hardware is configured"
            )
        version = self._read("isa_version")
        if version != ISA_VERSION:
            raise DeviceError(
                f"Device must have version {ISA_VERSION} of the instruction set, not {version}; "
                f"generate its hardware again"
            )

    def _difference(self, config: AcceleratorConfig) -> str:
        """Name the first capability in which the device differs from a configuration."""
        for name, expected in csr.constants(config).items():
            found = self._read(name)
            if name.startswith("digest") or found == expected:
                continue
            for field in csr.BY_NAME[name].fields:
                here = csr.field_value(name, field.name, found)
                there = csr.field_value(name, field.name, expected)
                if here != there:
                    return f"{field.doc} is {here} in the device, not {there}"
            return f"{csr.BY_NAME[name].doc} is {found} in the device, not {expected}"
        return "its capability registers are equal"

    def _check_program(self, program: Program) -> None:
        digest = self.digest
        if program.config.digest != digest:
            raise ProgramError(
                f'Program "{program.model}" was compiled for "{program.config.name}" (digest '
                f"{program.config.digest:016x}), not for this device (digest {digest:016x}): "
                f"{self._difference(program.config)}; compile it for this configuration"
            )

    def _place_code(self, program: Program) -> bytes:
        code = b""
        self._code_offsets = {}
        for index, segment in enumerate(program.segments):
            if isinstance(segment, AcceleratorSegment):
                # A program starts at a beat, which may be wider than an instruction.
                code += bytes(-len(code) % program.config.axi_bytes)
                self._code_offsets[index] = len(code)
                code += segment.code
        self._code_bytes = len(code)
        return code

    def _first(self) -> int:
        """Return the first address that a region may have."""
        return -(-self._transport.memory_base // REGION_ALIGNMENT) * REGION_ALIGNMENT

    def _room(self) -> int:
        """Return the bytes of whole pages that regions may take."""
        end = self._transport.memory_base + self._transport.memory_size
        return max(0, end - self._first()) // REGION_ALIGNMENT * REGION_ALIGNMENT

    def _allocate(self, sizes: Mapping[Region, int]) -> None:
        addr = self._first()
        end = self._transport.memory_base + self._transport.memory_size
        self._bases = {}
        for region, size in sizes.items():
            self._bases[region] = addr
            addr += -(-size // REGION_ALIGNMENT) * REGION_ALIGNMENT
        if addr > end:
            raise DeviceError(
                f"Program needs {addr - self._transport.memory_base} bytes of memory, but the "
                f"device has {self._transport.memory_size}; give it more"
            )

    def _stop(self) -> None:
        """Make the device idle, whoever started what runs, and forget its events."""
        deadline = time.monotonic() + ABORT_TIMEOUT_S
        while csr.field_value("status", "busy", self._read("status")):
            if time.monotonic() > deadline:
                raise DeviceTimeout(
                    f"Device must become idle within {ABORT_TIMEOUT_S} s of a stopped run, and did "
                    f"not; reset it"
                )
            # Again and again: one that comes while a program begins is not seen.
            self._write("control", csr.pack("control", abort=1))
        self._write("irq_status", _EVENTS)

    def _map_regions(self, segment: AcceleratorSegment) -> None:
        """Fill the whole region table: entries that the segment does not use permit nothing."""
        assert self._program is not None
        sizes = {
            Region.PROGRAM: self._code_bytes,
            Region.CONSTANTS: len(self._program.constants),
            Region.INPUT: segment.input_bytes,
            Region.OUTPUT: segment.output_bytes,
            Region.ARENA: segment.arena_bytes,
        }
        for number in range(REGION_COUNT):
            region = Region(number) if number in set(Region) else None
            size = sizes[region] if region is not None else 0
            base = self._bases[region] if region is not None and size else 0
            read, write = REGION_PERMISSIONS[region] if region is not None and size else (0, 0)
            self._write(f"region{number}_base_lo", base)
            self._write(f"region{number}_base_hi", base >> 32)
            self._write(f"region{number}_size", size)
            self._write(
                f"region{number}_flags", csr.pack("region0_flags", read=int(read), write=int(write))
            )

    def _start(self, segment_index: int, segment: AcceleratorSegment) -> None:
        self._write("program_offset", self._code_offsets[segment_index])
        self._write("program_count", segment.instruction_count)
        self._write("watchdog", WATCHDOG_CYCLES)
        self._write("irq_enable", _EVENTS)
        self._write("control", csr.pack("control", start=1))

    def _await_end(self, segment_index: int, segment: AcceleratorSegment) -> None:
        """Wait for done or a fault; on any error, a keyboard interrupt too, stop the device."""
        assert self._program is not None
        allowed = self._allowance(segment)
        begin = time.monotonic()
        try:
            self._transport.wait_interrupt(allowed.seconds)
        except DeviceTimeout as error:
            elapsed_s = time.monotonic() - begin
            self._stop()
            raise allowed.error(self._program.model, segment_index, elapsed_s) from error
        except BaseException:
            # If the way to the device is broken, that is what there is to report.
            with contextlib.suppress(DeviceError):
                self._stop()
            raise
        self._write("irq_status", _EVENTS)

    def _allowance(self, segment: AcceleratorSegment) -> Allowance:
        return allowance(segment, self._clock_hz, WATCHDOG_CYCLES, self._timeout_s)
