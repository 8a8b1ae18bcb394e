"""Points of the gateware that the stimuli of coverage do not reach, each with a name and a reason.

Patterns are searched in what :meth:`systolith.bench.coverage_data.Names.text_of` says of a point:

    port toggle TOP.pins.systolith.core.reader.expander i__payload.code[1]:0->1
    branch TOP.pins.systolith.core.store.queue 40046.28 cond_then: assign following = ...
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiver:
    """Points that are not reached.

    Parameters
    ----------
    name : str
        What is not reached.
    patterns : tuple of str
        Regular expressions, one of which is found in the text of each point.
    reason : str
        Why it is not, and where it is tried if it can happen.
    """

    name: str
    patterns: tuple[str, ...]
    reason: str


_AXI_PORT = r"(core memory__|core\.(reader|writer) )"
_REGISTERS = r"core\.csr_bank "
_DRAIN_ROWS = r"core\.drain\.(walker|writer) row"
_STEPS = r"core\.execute\.\w+ (steps__payload|[io]__payload|vector|tiles__payload)"
_STEP_REGISTERS = r"(geometry|current|addr_step|line_step)"

WAIVERS = (
    Waiver(
        "constants of AXI",
        (
            r"m_axi_gmem_\w*(id|size|burst|lock|cache|prot|qos|region|resp)\b",
            r"axi_control_[br]resp",
            r"(m_axi_gmem_a[rw]len|a[rw]__payload\.len)\[[4-7]\]",
            rf"{_AXI_PORT}a[rw]__payload\.(id|size|burst|cache|prot)\[",
            r"core(\.reader|\.writer)? [rb]__payload\.id\[",
        ),
        "one ID, one kind of burst with at most 16 beats, answers of registers that are always OKAY",
    ),
    Waiver(
        "bits without a meaning",
        (
            rf"{_REGISTERS}(command|event)(\.\w+)?\[([2-9]|[12]\d|3[01])\]",
            rf"{_REGISTERS}setting\.irq_enable\[([2-9]|[12]\d|3[01])\]",
            rf"{_REGISTERS}state\.status\[([3-9]|[12]\d|3[01])\]",
            rf"{_REGISTERS}state\.fault\[(1[1-9]|[23]\d)\]",
            rf"{_REGISTERS}state\.(progress_\w+|fault_index)\[(2[4-9]|3[01])\]",
            r"\.reserved\[",
        ),
        "what registers and instructions have beyond their fields",
    ),
    Waiver(
        "other hosts",
        (
            r"s_axi_control_(a[rw](addr\[[01]\]|prot)|wstrb)",
            r"bus__a[rw]__payload\.(addr\[[01]\]|prot\[)",
            r"bus__w__payload\.strb\[",
        ),
        "the host of these simulators writes aligned words with PROT 0; others do in `make pins` and "
        "`tests/gateware/test_csr_bank.py`",
    ),
    Waiver(
        "codes of faults",
        (
            r"\.code\[",
            r"core\.sequencer\.\w+ [io]__payload\.fault\[[2-7]\]",
            rf"{_REGISTERS}state\.fault\[[0-7]\]",
        ),
        "each unit can report some of the codes, and none uses the upper bits",
    ),
    Waiver(
        "places of faults",
        (
            r"(fault(\$\d+)?|engine_fault__\d)\.(addr|index)\[",
            rf"{_REGISTERS}state\.fault_(index|addr_\w+)\[",
            r"core\.execute\.window port\$\d+\$\d+\[",
            r" (bad|outside|error|bus_error)_addr\[",
            r"core\.writer\.responses r_data\[",
        ),
        "addresses on chip have 22 bits and a sign, those of bursts are aligned; far ones, and those "
        "of late instructions, in `tests/cosim/test_hostile.py` and `test_rtl_mutation.py`",
    ),
    Waiver(
        "kinds of faults",
        (
            r"branch \S+core\.execute\.window .*: if \(hits\[\d+\]\)",
            r"core\.execute\.loader bad(:|_)",
            r"core\.execute\.streamer tile_(bad|fault):",
            r"core\.drain\.loader outside:",
            r"line \S+core\.execute .*bad_tile",
            r" (acc_|feed_)?conflict:",
            r"core(\.writer)? b__payload\.resp\[0\]",
        ),
        "all of them in `tests/gateware/test_execute_faults.py`; feeds that meet in a bank are "
        "PORT_CONFLICT among the hostile streams above",
    ),
    Waiver(
        "wide fields",
        (
            rf"{_STEPS}(\.walk)?\.(col_step|row_lines|row_step|ky_lines|ky_step|lanes|lines)\[",
            rf"{_STEPS}\.(acc|addr|rows)\[",
            rf"{_DRAIN_ROWS}\.(a|b|acc|addr)\[",
            r"core\.execute\.(step|tile)_queue o__payload\[",
            r"\.offset\[32\]",
            r"core\.(load|store)\.segments(\.leave)? [io]__payload\.local\[22\]",
        ),
        "sizes, steps and places that memories of 1 KiB have no use for; instructions at the limits "
        "of their fields in `tests/cosim/test_differential.py`",
    ),
    Waiver(
        "places beyond all memories",
        (
            rf"branch \S+core\.execute\.\w+ .* cond_then: .*\? \d+'h0+ : {_STEP_REGISTERS}",
            r"branch \S+core\.execute\.sequencer .* cond_then: .*w_addr\[19\] \?",
        ),
        "they stay where they are, so that none comes around; the fault of the first of them ends "
        "the program",
    ),
    Waiver(
        "requests of fetch",
        (
            r"(request__payload|core\.reader(\.asked)? [io]__payload(\$\d+)?)\.bytes\[",
            r"core\.reader\.fetch i__payload\.(region|size|last)\[",
        ),
        "it asks region 0 for whole instructions, a few of them",
    ),
    Waiver(
        "waits of EXECUTE",
        (r"core\.sequencer (waiting__1)\[[1-3]\]", r"core\.sequencer\.queue1 waiting\[[1-3]\]"),
        "all but that for LOAD are checked behind its queue",
    ),
    Waiver(
        "queues that never fill",
        (
            r"core\.sequencer fetch_data__ready:|core\.reader fetch_data__ready:",
            r"core\.sequencer\.fetch(\.assembler|\.entry)? (data|[io])__ready:",
            r"core\.load\.queue i__ready:",
            r"core\.drain(\.tables)? (table_write|i)__ready:",
            r"(line|branch) \S+core\.(reader|load|store)\.queue ",
            r"branch \S+core\.load\.segments \S+ else: ",
            r"(line|branch) \S+core\.sequencer\.fetch\.(assembler|entry) ",
        ),
        "what they feed is faster, always ready, or asks only for what there is room for",
    ),
    Waiver(
        "spaces of STORE",
        (
            r"core\.store\.(queue|segments)(\.leave)? (command|[io])__payload\.space\[",
            r"line \S+core\.store\.segments .*: 2'h[123]:",
            r"branch \S+core\.store\.segments .*failed \? walk",
        ),
        "it reads the scratchpad only, and its commands are never refused",
    ),
    Waiver(
        "modes of the requantizer",
        (
            r"core\.drain\.lanes elementwise\.(op\[2\]|\w+_multiplier\[31\])",
            r"core\.drain\.lanes\.elementwise\d+ settings\.(op\[2\]|\w+_multiplier\[31\])",
            r"core\.drain\.lanes\.elementwise\d+\.rescaler (multiplier\[31\]|rounding\[1\])",
            r"(branch|line) \S+core\.drain\.lanes\.elementwise\d+\.rescaler ",
        ),
        "averages, float32 roundings and negative multipliers, which elementwise units do not have",
    ),
    Waiver(
        "lanes",
        (r"core\.(drain|drain\.writer|scratchpad) \w*write__payload\.(data\[\d+\]|mask)\[",),
        "a word of the scratchpad has more bytes than there are lanes, or than a beat has",
    ),
    Waiver(
        "alarms of soft errors",
        (
            r" (soft|activation|queue|sum)_error(\[|:)|broken:",
            r"core\.drain\.lanes\.params port\$",
            r"branch \S+core \S+ if: if \((\\soft_error\$\d+ |\w+_error)\)",
            r"branch \S+core\.sequencer \d+\.5 if: ",
        ),
        "nothing is flipped here, but in `make soft-errors` and `tests/cosim/test_soft_errors.py`",
    ),
    Waiver(
        "whole beats",
        (r"core\.counters events\$\d+\.read_bytes\[",),
        "bytes that are read are counted in beats",
    ),
    Waiver(
        "a bus that falls silent behind HALT",
        (r"branch \S+core\.sequencer \d+\.13 if: ",),
        "`tests/gateware/test_sequencer.py`",
    ),
)
"""All of them; the document lists them with their numbers."""


def waiver_of(text: str) -> Waiver | None:
    """Return the first waiver of a hole, given its text, or None."""
    return next(
        (w for w in WAIVERS if any(re.search(pattern, text) for pattern in w.patterns)), None
    )
