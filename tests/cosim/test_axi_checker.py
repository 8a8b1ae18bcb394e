"""The protocol checkers on waveforms written by hand: legal ones pass, each rule has one that breaks it."""

import pytest

from systolith.bench.axi_checker import AxiChecker, AxiLiteChecker, Limits, Window
from systolith.bench.axi_handshakes import FIELDS, LITE_FIELDS, RULES, Violation

BASE = 0x1000
ATTRIBUTES = {"cache": 3}
WINDOWS = (Window(BASE, 16, read=True, write=False), Window(BASE + 0x100, 10, False, write=True))


def payload(channel, fields=FIELDS, **values):
    return tuple(values.get(name, 0) for name in fields[channel])


def address(addr, beats=2, **values):
    fields = {"addr": addr, "len": beats - 1, "size": 3, "burst": 1} | ATTRIBUTES | values
    return payload("ar", **fields)


AR, AW = address(BASE), address(BASE + 0x100)
R = [payload("r", data=7), payload("r", data=8, last=1)]
W = [payload("w", data=1, strb=0xFF), payload("w", data=2, strb=0x03, last=1)]
B = payload("b")

# Cycle by cycle, what the channels show that are not idle: VALID, READY, payload.
LEGAL = [
    {"ar": (1, 0, AR)},
    {"ar": (1, 1, AR), "aw": (1, 0, AW), "w": (1, 1, W[0])},
    {"aw": (1, 1, AW), "r": (1, 0, R[0]), "w": (1, 0, W[1])},
    {"r": (1, 1, R[0]), "w": (1, 1, W[1])},
    {"r": (1, 1, R[1]), "b": (1, 0, B)},
    {"b": (1, 1, B)},
]


def judge(wave, checker=None, fields=FIELDS, *, resets=()):
    checker = checker or AxiChecker(data_bits=64, windows=WINDOWS)
    for number, shown in enumerate(wave):
        samples = {name: shown.get(name, (0, 0, payload(name, fields))) for name in fields}
        checker.step(samples, reset=number in resets)
    checker.finish()
    return checker


def changed(cycle, channel, sample):
    """The legal wave with another sample."""
    wave = [dict(shown) for shown in LEGAL]
    wave[cycle][channel] = sample
    return wave


def read_of(ar, beats=()):
    return [{"ar": (1, 1, ar)}, *({"r": (1, 1, beat)} for beat in beats)]


# By rule: waves that break it.
BROKEN = {
    "unknown": [
        changed(0, "b", (None, 0, B)),
        changed(0, "w", (0, None, W[0])),
        changed(4, "r", (1, 1, payload("r", data=None, last=1))),
    ],
    "valid held": [changed(1, "ar", (0, 1, AR)), changed(3, "r", (0, 0, R[0]))],
    "payload held": [
        changed(1, "ar", (1, 1, address(BASE + 8))),
        changed(3, "w", (1, 1, payload("w", data=3, strb=3, last=1))),
        changed(5, "b", (1, 1, payload("b", resp=2))),
    ],
    "length": [read_of(address(BASE, beats=17))],
    "size": [read_of(address(BASE, size=2))],
    "burst": [read_of(address(BASE, burst=2))],
    "alignment": [read_of(address(BASE + 4, beats=1))],
    "boundary": [read_of(address(2 * BASE - 8))],
    "attributes": [
        read_of(address(BASE, **{name: value}))
        for name, value in {"id": 1, "lock": 1, "cache": 2, "prot": 1, "qos": 1, "region": 1}.items()
    ],
    "window": [
        read_of(address(BASE + 16, beats=1)),
        changed(2, "w", (1, 0, payload("w", data=2, strb=0x07, last=1))),
    ],
    "early data": [changed(0, "w", (1, 1, W[0]))],
    "wlast": [
        changed(1, "w", (1, 1, payload("w", data=1, strb=0xFF, last=1))),
        changed(2, "w", (1, 1, payload("w", data=2, strb=0x03))),
    ],
    "rlast": [
        read_of(AR, [payload("r", last=1)]),
        read_of(AR, [R[0], payload("r")]),
    ],
    "unasked read": [[{"r": (1, 1, R[0])}], [{"ar": (1, 1, AR), "r": (1, 1, R[0])}]],
    "unasked response": [changed(0, "b", (1, 1, B)), changed(3, "b", (1, 1, B))],
    "id": [read_of(AR, [payload("r", id=1)]), changed(4, "b", (1, 0, payload("b", id=1)))],
    "response": [read_of(AR, [payload("r", resp=1)]), changed(4, "b", (1, 0, payload("b", resp=1)))],
    "unfinished": [LEGAL[:1], LEGAL[:2], LEGAL[:3], LEGAL[:4], LEGAL[:5]],
}  # fmt: skip


def first_rule(checker):
    return checker.violations[0].rule if checker.violations else None


def test_a_legal_wave_passes_and_is_counted():
    checker = judge(LEGAL)
    assert checker.violations == []
    assert (checker.reads, checker.writes) == (1, 1)
    assert (checker.most_reads, checker.most_writes) == (1, 1)
    assert checker.transfers == {"ar": 1, "r": 2, "aw": 1, "w": 2, "b": 1}


@pytest.mark.parametrize(
    ("rule", "wave"),
    [(rule, wave) for rule, waves in BROKEN.items() for wave in waves],
    ids=[f"{rule} {n}" for rule, waves in BROKEN.items() for n in range(len(waves))],
)
def test_a_broken_wave_is_caught_by_its_rule(rule, wave):
    assert first_rule(judge(wave)) == rule


@pytest.mark.parametrize(
    ("rule", "limits", "ask"),
    [
        ("read limit", Limits(reads=2), {"ar": (1, 1, AR)}),
        ("write limit", Limits(writes=2), {"aw": (1, 1, AW)}),
    ],
)
def test_one_burst_too_many_is_caught(rule, limits, ask):
    checker = AxiChecker(data_bits=64, limits=limits)
    judge([ask] * 2, checker)
    assert rule not in [v.rule for v in checker.violations]
    checker = AxiChecker(data_bits=64, limits=limits)
    assert rule in [v.rule for v in judge([ask] * 3, checker).violations]


def test_valid_during_reset_is_caught_from_its_second_cycle_on():
    ask = {"ar": (1, 1, AR)}
    assert judge([ask, {}, {}], resets=(0, 1)).violations == []
    assert first_rule(judge([{}, ask, {}], resets=(0, 1))) == "reset"
    assert first_rule(judge([{}, {"ar": (None, 0, AR)}], resets=(0, 1))) == "reset"


def test_reset_forgets_what_is_in_flight():
    checker = judge([*LEGAL[:3], {}, *LEGAL], resets=(3,))
    assert checker.violations == []
    assert (checker.reads, checker.writes) == (1, 1)


def test_every_rule_is_broken_here():
    assert {*BROKEN, "reset", "read limit", "write limit"} == set(RULES)


def test_a_violation_says_where_when_and_which_rule():
    text = str(Violation(12, "w", "wlast", "WLAST is 0 on beat 2 of 2"))
    assert text == f"W in cycle 12: wlast ({RULES['wlast']}): WLAST is 0 on beat 2 of 2"


LITE_AR = payload("ar", LITE_FIELDS, addr=4)
LITE_W = payload("w", LITE_FIELDS, data=1, strb=15)
LITE_R = payload("r", LITE_FIELDS, data=1)
LITE_B = payload("b", LITE_FIELDS)
LITE_LEGAL = [
    {"ar": (1, 1, LITE_AR), "w": (1, 0, LITE_W)},
    {"r": (1, 1, LITE_R), "aw": (1, 1, LITE_AR), "w": (1, 1, LITE_W)},
    {"b": (1, 1, LITE_B), "ar": (1, 1, LITE_AR)},
    {"r": (1, 1, LITE_R)},
]
LITE_BROKEN = {
    "unknown": [{"ar": (1, 1, (None, 0))}],
    "valid held": [{"aw": (1, 0, LITE_AR)}, {}],
    "payload held": [{"aw": (1, 0, LITE_AR)}, {"aw": (1, 0, (8, 0))}],
    "unasked read": [{"r": (1, 1, LITE_R)}],
    "unasked response": [{"aw": (1, 1, LITE_AR)}, {"b": (1, 1, LITE_B)}],
    "response": [{"ar": (1, 1, LITE_AR)}, {"r": (1, 1, (1, 1))}],
    "read limit": [{"ar": (1, 1, LITE_AR)}] * 2,
    "write limit": [{"aw": (1, 1, LITE_AR)}] * 2,
    "unfinished": LITE_LEGAL[:3],
}


def test_a_legal_wave_of_registers_passes_and_is_counted():
    checker = judge(LITE_LEGAL, AxiLiteChecker(), LITE_FIELDS)
    assert checker.violations == []
    assert (checker.reads, checker.writes) == (2, 1)


@pytest.mark.parametrize("rule", LITE_BROKEN)
def test_a_broken_wave_of_registers_is_caught(rule):
    assert first_rule(judge(LITE_BROKEN[rule], AxiLiteChecker(), LITE_FIELDS)) == rule


def test_valid_during_reset_of_registers_is_caught():
    wave = [{}, {"b": (1, 0, LITE_B)}]
    assert first_rule(judge(wave, AxiLiteChecker(), LITE_FIELDS, resets=(0, 1))) == "reset"
