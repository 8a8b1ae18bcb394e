"""Choose how images lie in the scratchpad: dense, or with gaps that keep column feeds apart."""

from collections.abc import Iterable
from dataclasses import dataclass

from systolith.arch.config import AcceleratorConfig, ceil_div

from .ir import DepthwiseKernel, Image, Kernel
from .kernels_onnx import SummedDepthwiseKernel


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Bytes from one pixel to the next, and from one line to the next."""

    pixel: int
    line: int

    def nbytes(self, height: int) -> int:
        """Bytes that an image of so many lines takes."""
        return height * self.line


def dense(image: Image) -> Layout:
    """Return the layout without gaps."""
    return Layout(pixel=image.channels, line=image.width * image.channels)


def spread(image: Image, config: AcceleratorConfig) -> Layout:
    """Return the layout of an image that several column feeds read at once.

    Feeds beyond the first read whole words, so pixels start at words; and they read the same column
    of consecutive lines in one cycle, so that lines must be an odd number of words apart to be in
    different banks.
    """
    if config.feeds == 1:
        return dense(image)
    word = config.word_bytes
    pixel_words = ceil_div(image.channels, word)
    line_words = image.width * pixel_words
    return Layout(pixel=pixel_words * word, line=(line_words | 1) * word)


def choose(kernels: Iterable[Kernel], config: AcceleratorConfig) -> dict[str, Layout]:
    """Return the layouts of the tensors that do not lie densely, by name."""
    convs = (k.conv if isinstance(k, SummedDepthwiseKernel) else k for k in kernels)
    return {
        conv.input.tensor: spread(conv.input, config)
        for conv in convs
        if isinstance(conv, DepthwiseKernel)
    }
