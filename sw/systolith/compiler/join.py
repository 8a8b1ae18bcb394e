"""Join kernel lines of convolutions on narrow images into longer runs.

Where an input has few channels and short lines, a run of one kernel line fills only a few rows of
the array. If the padding lies in memory, lines follow each other without gap, and a window over
several of them is one run: the taps of the next line come one line of bytes later, with zero
weights between. The result is an ordinary convolution with fewer and longer kernel lines.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from systolith.arch.config import AcceleratorConfig, ceil_div

from .ir import ConvKernel, Image, ImageKernel, Kernel, ViewKernel


@dataclass(frozen=True, kw_only=True)
class Margin:
    """How an input lies in the scratchpad with its padding around it.

    Parameters
    ----------
    image : Image
        The input itself.
    top, left : int
        Lines and pixels of padding before it.
    lines, width : int
        Lines and pixels of the whole, padding on all sides included.
    value : int
        The padding's value.
    """

    image: Image
    top: int
    left: int
    lines: int
    width: int
    value: int

    @property
    def line(self) -> int:
        """Bytes of a line."""
        return self.width * self.image.channels

    @property
    def nbytes(self) -> int:
        """Bytes of the whole."""
        return self.lines * self.line

    @property
    def offset(self) -> int:
        """Byte at which the image's first pixel lies."""
        return self.top * self.line + self.left * self.image.channels


def join_lines(
    kernels: Sequence[Kernel], config: AcceleratorConfig
) -> tuple[tuple[Kernel, ...], dict[str, Margin]]:
    """Rewrite the convolutions that gain by it.

    Parameters
    ----------
    kernels : sequence of Kernel
        Kernels of one segment.
    config : AcceleratorConfig
        Machine.

    Returns
    -------
    tuple of Kernel
        The kernels; those rewritten read an image that holds their padding.
    dict of str to Margin
        The inputs that must be loaded with padding around them, by name.
    """
    made = {kernel.output.tensor for kernel in kernels if isinstance(kernel, ImageKernel)}
    made |= {kernel.output for kernel in kernels if isinstance(kernel, ViewKernel)}
    uses: Counter[str] = Counter()
    for kernel in kernels:
        if isinstance(kernel, ImageKernel):
            uses.update(image.tensor for image in kernel.reads)
        elif isinstance(kernel, ViewKernel):
            uses[kernel.input] += 1
    margins: dict[str, Margin] = {}
    result: list[Kernel] = []
    for kernel in kernels:
        joined = None
        if isinstance(kernel, ConvKernel):
            name = kernel.input.tensor
            if name not in made and uses[name] == 1:
                joined = _join(kernel, config)
        if joined is None:
            result.append(kernel)
        else:
            result.append(joined[0])
            margins[joined[1].image.tensor] = joined[1]
    return tuple(result), margins


def _join(kernel: ConvKernel, config: AcceleratorConfig) -> tuple[ConvKernel, Margin] | None:
    """Return the convolution with joined lines and its margin, or None if nothing can be joined."""
    image, output = kernel.input, kernel.output
    count, height, width, channels = kernel.weights.shape
    if kernel.dilation != (1, 1):
        return None
    line = max(kernel.pad_left + image.width, (output.width - 1) * kernel.stride[1] + width)
    lanes = config.rows // channels
    together = min(height, (lanes - width) // line + 1)
    if together < 2:
        return None
    steps = ceil_div(height, together)
    run = (together - 1) * line + width
    weights = np.zeros((count, steps, run, channels), np.int8)
    for ky in range(height):
        step, place = divmod(ky, together)
        weights[:, step, place * line : place * line + width] = kernel.weights[:, ky]
    # Windows reach over the lines that they join, and those that the last step lacks.
    lines = max(
        kernel.pad_top + image.height, (output.height - 1) * kernel.stride[0] + steps * together
    )
    margin = Margin(
        image=image,
        top=kernel.pad_top,
        left=kernel.pad_left,
        lines=lines,
        width=line,
        value=kernel.pad_value,
    )
    joined = replace(
        kernel,
        input=replace(image, height=lines, width=line * together),
        weights=weights,
        dilation=(together, 1),
        pad_top=0,
        pad_left=0,
    )
    return joined, margin
