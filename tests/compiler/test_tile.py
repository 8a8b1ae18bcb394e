import numpy as np
import pytest

from systolith.arch.presets import PRESETS
from systolith.bench.random_kernel import conv_kernel
from systolith.compiler import tile
from systolith.compiler.ir import AveragePoolKernel, Image
from systolith.compiler.lower import conv_walk, params, pool


@pytest.mark.parametrize(
    ("height", "width", "limit"), [(1, 1, 1), (7, 5, 5), (7, 5, 17), (3, 100, 64), (32, 32, 256)]
)
def test_image_tiles_cover_each_pixel_once(height, width, limit):
    seen = np.zeros((height, width), int)
    for part in tile.image_tiles((0, height), width, limit):
        assert part.rows * part.cols <= limit
        seen[part.row : part.row + part.rows, part.col : part.col + part.cols] += 1
    assert (seen == 1).all()


def _walk(config, kernel):
    image = kernel.input
    source = tile.Placement(address=0, pixel=image.channels, line=image.width * image.channels)
    return conv_walk.ConvShape(config=config, kernel=kernel, source=source, flat=False)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("channels", [1, 3, 16, 40, 300])
@pytest.mark.parametrize("config", ["tiny-4x4", "edge-16x16"])
def test_groups_cover_the_reduction_in_order(rng, config, channels, dilation):
    config = PRESETS[config]
    kernel = conv_kernel(rng, size=(9, 9), channels=channels, dilation=dilation, pad=0)
    shape = _walk(config, kernel)
    first = 0
    for group in shape.groups():
        assert group.first == first
        steps = group.ky_count * group.kx_count
        lanes = (group.chunk_count - 1) * group.lanes + group.lanes_last
        assert group.rows == steps * lanes
        assert 1 <= group.lanes_last <= group.lanes <= config.rows
        words = conv_walk.weight_words(config, kernel, group, 0)
        assert words.shape == (group.rows, config.weight_word_bytes)
        assert words.nbytes <= config.weight_bytes // 8 or group.chunk_count == 1
        first += group.rows
    assert first == 9 * channels


def test_weight_words_hold_one_reduction_index_each(rng, tiny):
    kernel = conv_kernel(rng, channels=3, out_channels=6)
    (group,) = _walk(PRESETS["edge-16x16"], kernel).groups()
    words = conv_walk.weight_words(tiny, kernel, group, 4).view(np.int8)
    assert words[(1 * 3 + 2) * 3 + 1, 0] == kernel.weights[4, 1, 2, 1]
    assert words[:, 2:].any() == False  # noqa: E712 - channels beyond the last are zero


def test_param_words_hold_bias_multiplier_and_shift(rng):
    config = PRESETS["edge-8x8"]
    kernel = conv_kernel(rng, out_channels=11)
    raw = params.param_words(config, kernel.bias, kernel.requantization, 8).ravel()
    assert raw[:12].view("<i4").tolist() == kernel.bias[8:].tolist()
    start = config.bias_words * config.weight_word_bytes
    assert raw[start : start + 12].view("<i4").tolist() == (
        kernel.requantization.multipliers[8:].astype("<i4").tolist()
    )
    shifts = raw[2 * start : 2 * start + 3].view("i1")
    assert shifts.tolist() == kernel.requantization.shifts[8:].tolist()


def test_pool_regions_have_the_count_of_their_windows():
    image = Image(tensor="x", height=7, width=6, channels=1)
    out = Image(tensor="y", height=4, width=3, channels=1)
    kernel = AveragePoolKernel(
        layer=0,
        input=image,
        output=out,
        window=(3, 3),
        stride=(2, 2),
        pad_top=1,
        pad_left=0,
        low=-128,
        high=127,
    )
    seen = np.zeros((4, 3), int)
    for region in pool.pool_regions(kernel):
        for y in range(region.row, region.row + region.rows):
            for x in range(region.col, region.col + region.cols):
                rows = [r for r in range(y * 2 - 1, y * 2 + 2) if 0 <= r < 7]
                cols = [c for c in range(x * 2, x * 2 + 3) if 0 <= c < 6]
                assert region.count == len(rows) * len(cols)
                seen[y, x] += 1
    assert (seen == 1).all()
