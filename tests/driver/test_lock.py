"""Locks of devices: one session at a time, whichever way the process of the other one ended."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from systolith.arch.errors import DeviceBusy
from systolith.driver import lock

HOLDER = """
import os, sys, time
from systolith.driver import lock
lock.acquire(os.open(sys.argv[1], os.O_RDONLY), "device", shared=len(sys.argv) > 2)
print("locked", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "device"
    path.touch()
    return path


@pytest.fixture
def other(path):
    """A function that lets another process lock the file."""
    processes = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path), *arguments], stdout=subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout.readline() == b"locked\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def opened(path):
    return os.open(path, os.O_RDONLY)


def test_holder_is_named_and_its_death_gives_the_lock_back(path, other):
    process, file = other(), opened(path)
    assert lock.holder(str(path)) == process.pid
    with pytest.raises(DeviceBusy, match=f"used by a session of process {process.pid}; end") as e:
        lock.acquire(file, "npu")
    assert (e.value.device, e.value.holder, e.value.waited_s) == ("npu", process.pid, 0.0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lock.acquire(file, "npu")
    assert lock.holder(file) == os.getpid()
    lock.release(file)
    assert lock.holder(str(path)) is None


def test_lock_is_waited_for(path):
    first, second = opened(path), opened(path)
    lock.acquire(first, "npu")
    start = time.monotonic()
    timer = threading.Timer(0.2, lock.release, [first])
    timer.start()
    lock.acquire(second, "npu", wait_s=30.0)
    assert 0.2 <= time.monotonic() - start < 30.0
    timer.join()
    lock.release(second)


def test_lock_may_be_shared(path, other):
    other("shared")
    file = opened(path)
    lock.acquire(file, "npu", shared=True)
    lock.release(file)
    file = opened(path)
    with pytest.raises(DeviceBusy):
        lock.acquire(file, "npu")
    os.close(file)


@pytest.mark.parametrize("text", [None, "", "1: POSIX  ADVISORY  READ 7 00:01:2 0 EOF\n"])
def test_holder_may_be_unknown(path, tmp_path, monkeypatch, text):
    locks = tmp_path / "locks"
    if text is not None:
        locks.write_text(text)
    monkeypatch.setattr(lock, "LOCKS", locks)
    first, second = opened(path), opened(path)
    lock.acquire(first, "npu")
    with pytest.raises(DeviceBusy, match="is used by another session; end"):
        lock.acquire(second, "npu")
    lock.release(first)
    os.close(second)


def test_process_of_another_name_space_is_not_named(path, tmp_path, monkeypatch):
    found = path.stat()
    number = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    locks = tmp_path / "locks"
    locks.write_text(f"1: FLOCK  ADVISORY  WRITE 0 {number} 0 EOF\n")
    monkeypatch.setattr(lock, "LOCKS", locks)
    assert lock.holder(str(path)) is None


def test_lock_of_a_name_is_a_file_that_anybody_can_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LOCK_FOLDER", tmp_path)
    before = os.umask(0o077)
    try:
        first = lock.open_lock("npu")
    finally:
        os.umask(before)
    second = lock.open_lock("npu")
    (file,) = tmp_path.iterdir()
    assert file.name == "systolith-npu.lock"
    assert file.stat().st_mode & 0o777 == 0o644
    lock.acquire(first, "npu")
    with pytest.raises(DeviceBusy):
        lock.acquire(second, "npu")
    lock.release(first)
    os.close(second)
