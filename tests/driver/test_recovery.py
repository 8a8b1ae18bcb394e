"""Clients that are killed at any point, and clients at the same time, on a device that outlives them."""

import signal

import pytest

from systolith.bench import recovery
from systolith.bench.recovery import CONTEXT, Counts, Point, contend, kill, points_of
from systolith.bench.served import MEMORY_BYTES, PHASES, Fate, Place, device_process, open_place
from systolith.golden.device import GoldenDevice

GOLDEN_POINTS, POINTS, SESSIONS = 10, 3, 1


@pytest.fixture
def place(request, tiny, tmp_path):
    """A device in a process of its own."""
    with device_process(request.param, tiny, tmp_path, CONTEXT) as place:
        yield place


def check_kills(place, count, seed):
    points = points_of(place, count)
    assert len(points) == count
    assert {point.phase for point in points} == set(range(len(PHASES)))
    counts, killed, failures = kill(place, points, seed)
    assert failures == []
    assert (counts.exact, counts.wrong) == (2 * count, 0)
    # A slow line may make a life end before its last accesses come.
    assert killed == count if place.kind != "uart" else killed >= 0.9 * count


def check_contention(place, sessions, seed):
    counts, failures = contend(place, 2, sessions, seed)
    assert failures == []
    assert (counts.exact, counts.wrong) == (2 * 2 * sessions, 0)


@pytest.mark.parametrize("place", ["golden"], indirect=True)
def test_whoever_follows_a_killed_client_gets_exact_results(place, seed):
    check_kills(place, GOLDEN_POINTS, seed)


@pytest.mark.parametrize("place", ["golden"], indirect=True)
def test_clients_at_the_same_time_never_get_mixed_results(place, seed):
    check_contention(place, 5, seed)


@pytest.mark.cosim
@pytest.mark.parametrize("place", ["uio", "uart"], indirect=True)
def test_hardware_recovers_from_killed_clients(place, seed):
    check_kills(place, POINTS, seed)
    # A second for each client of the simulated line is left to the slow test.
    if place.kind != "uart":
        check_contention(place, SESSIONS, seed)


@pytest.mark.cosim
@pytest.mark.slow
@pytest.mark.parametrize("place", ["uio", "uart"], indirect=True)
def test_hardware_recovers_from_clients_killed_at_200_points(place, seed):
    check_kills(place, 200, seed)
    check_contention(place, 20, seed)


@pytest.mark.parametrize("place", ["golden"], indirect=True)
@pytest.mark.parametrize("phase", range(len(PHASES)))
def test_client_is_killed_where_it_is_meant_to_be(place, phase):
    victim = CONTEXT.Process(target=recovery._victim, args=(place, 1, Point(3, phase)))
    victim.start()
    victim.join(60.0)
    assert victim.exitcode == -signal.SIGKILL


# Controls


class Mixed(GoldenDevice):
    """A device whose results have a byte of somebody else."""

    def read_memory(self, addr, size):
        data = super().read_memory(addr, size)
        return bytes(byte ^ (place == 0) for place, byte in enumerate(data))


def test_wrong_byte_is_counted(tiny, monkeypatch):
    mixed = Mixed(tiny, memory_size=MEMORY_BYTES)
    monkeypatch.setattr(recovery, "open_place", lambda *_, **__: (mixed, Fate(None)))
    counts = Counts()
    counts.run(Place("golden", "", tiny, 0), 1, wait_s=0.0)
    assert (counts.exact, counts.wrong) == (0, 2)


@pytest.mark.parametrize("place", ["golden"], indirect=True)
def test_device_that_is_kept_by_somebody_is_a_failure(place):
    kept, _ = open_place(place, wait_s=0.0)
    counts, killed, failures = kill(place, [Point(0, 0)], 1)
    kept.close()
    assert (counts.exact, killed) == (0, 0)
    assert any("DeviceBusy" in failure for failure in failures)
