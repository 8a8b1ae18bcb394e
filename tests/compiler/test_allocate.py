import numpy as np
import pytest

from systolith.arch import isa
from systolith.arch.errors import AllocationError
from systolith.compiler.allocate import Lifetime, Ring, place
from systolith.compiler.tile import Block


def _block(words, users=1):
    return Block(space=isa.Space.WEIGHTS, words=np.zeros((words, 8), np.uint8), users=users)


def test_place_keeps_tensors_that_live_together_apart(rng, tiny):
    for _ in range(50):
        items = []
        for number in range(int(rng.integers(2, 12))):
            first = int(rng.integers(0, 10))
            last = first + int(rng.integers(0, 4))
            nbytes = int(rng.integers(1, 700))
            items.append(Lifetime(name=str(number), nbytes=nbytes, first=first, last=last))
        addresses = place(items, tiny)
        for a in items:
            assert addresses[a.name] % tiny.word_bytes == 0
            assert addresses[a.name] + a.nbytes <= tiny.scratchpad_bytes
            for b in items:
                together = a is not b and a.first <= b.last and b.first <= a.last
                if together and addresses[a.name] <= addresses[b.name]:
                    assert addresses[a.name] + a.nbytes <= addresses[b.name]


def test_place_refuses_what_does_not_fit(tiny):
    items = [Lifetime(name=name, nbytes=5000, first=0, last=1) for name in ("image", "sum")]
    message = (
        'Tensor "sum" needs 5000 bytes of scratchpad beside 5000 bytes of tensors alive with it, '
        'but "tiny-4x4" has 8192; use a configuration with a larger scratchpad'
    )
    with pytest.raises(AllocationError) as caught:
        place(items, tiny)
    assert str(caught.value) == message


def test_ring_never_overlaps_blocks_in_use(rng):
    ring, live = Ring(100), []
    placed = 0
    for _ in range(2000):
        block = _block(int(rng.integers(1, 60)))
        if ring.place(block):
            placed += 1
            for other in live:
                apart = block.addr + len(block.words) <= other.addr or (
                    other.addr + len(other.words) <= block.addr
                )
                assert apart
            assert block.addr >= 0 and block.addr + len(block.words) <= 100
            live.append(block)
        elif live:
            live.pop(0).users = 0
    assert placed > 200


def test_ring_refuses_a_block_larger_than_itself():
    assert not Ring(10).place(_block(11))
    assert Ring(10).place(_block(10))
