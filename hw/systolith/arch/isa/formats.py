"""The instructions: one declaration each."""

from dataclasses import dataclass

from .values import (
    AccOp,
    ElementwiseOp,
    FeedMode,
    ParamMode,
    Rounding,
    Space,
    VectorOp,
    WeightMode,
)
from .word import (
    LOCAL_ADDR_BITS,
    WINDOW_ADDR_BITS,
    Engine,
    Instruction,
    Opcode,
    bits,
)


@dataclass(frozen=True, kw_only=True)
class Halt(Instruction):
    """End the program: done is raised when every engine has completed everything."""

    OPCODE = Opcode.HALT
    ENGINE = Engine.SEQUENCER


@dataclass(frozen=True, kw_only=True)
class _Move(Instruction):
    """A byte stream between DRAM (runs of bytes) and a local memory (segments in groups)."""

    space: Space = bits(2, "local memory", enum=Space)
    region: int = bits(3, "DRAM region")
    offset: int = bits(32, "byte offset of the first run in the region")
    run: int = bits(LOCAL_ADDR_BITS, "bytes of a run in DRAM", count=True)
    run_step: int = bits(24, "bytes from one run's start to the next one's")
    total: int = bits(LOCAL_ADDR_BITS, "bytes moved in all", count=True)
    addr: int = bits(LOCAL_ADDR_BITS, "local byte address of the first segment")
    segment: int = bits(LOCAL_ADDR_BITS, "bytes of a segment in local memory", count=True)
    segment_step: int = bits(LOCAL_ADDR_BITS, "bytes from one segment's start to the next one's")
    segments: int = bits(12, "segments of a group", count=True)
    group_step: int = bits(LOCAL_ADDR_BITS, "bytes from one group's start to the next one's")


@dataclass(frozen=True, kw_only=True)
class Load(_Move):
    """Move bytes from DRAM to a local memory.

    The byte stream is read from runs of `run` bytes, `run_step` apart, and laid into segments of
    `segment` bytes, `segment_step` apart, `segments` to a group, groups `group_step` apart, until
    `total` bytes are moved; the last run and segment may be cut short. For spaces other than the
    scratchpad, `offset`, `run`, `run_step`, `addr`, `segment`, `segment_step`, `group_step` and
    `total` must be multiples of the AXI beat (fault ALIGNMENT). For the scratchpad any value is
    legal. Table t is bytes 256 t to 256 t + 255 of its space; its byte `v mod 256` is the entry of
    the int8 value v.
    """

    OPCODE = Opcode.LOAD
    ENGINE = Engine.LOAD


@dataclass(frozen=True, kw_only=True)
class Store(_Move):
    """Move bytes from the scratchpad to DRAM: the reverse of `LOAD`, `space` must be SCRATCHPAD."""

    OPCODE = Opcode.STORE
    ENGINE = Engine.STORE


@dataclass(frozen=True, kw_only=True)
class Geometry(Instruction):
    """Set how the passes that follow walk over their input.

    One *tile step* is one (ky, kx, chunk) of the loops, ky outermost, chunk innermost; each streams
    all the vectors of the pass against one weight tile. With (row, col) the position of an output,
    the vector of a step is the window of bytes that starts at

        x    = x0 + col * col_step + kx * kx_step + chunk * chunk_step        (byte in the line)
        line = y0 + row * row_lines + ky * ky_lines
        addr = addr0 + row * row_step + ky * ky_step + (x - x0)

    where x0, y0 and addr0 are fields of the pass. Lane i of the window is the scratchpad byte at
    `addr + i` if `i < lanes` (`lanes_last` in the last chunk), `0 <= x + i < line_bytes` and
    `0 <= line < lines`; it is `pad` if `i < lanes` and either of the two last conditions fails; it is
    zero if `i >= lanes`. In depthwise mode feed j, 0 <= j < F, reads the line `line + j * ky_lines` at
    `addr + j * ky_step` (so a ky step of the loop advances F lines: `ky_lines` and `ky_step` are
    those of one kernel line, and the loop multiplies them by F).
    """

    OPCODE = Opcode.GEOMETRY
    ENGINE = Engine.EXECUTE

    mode: FeedMode = bits(1, "feed mode", enum=FeedMode)
    pad: int = bits(8, "value of bytes outside the image", signed=True)
    lines: int = bits(14, "lines of the image")
    line_bytes: int = bits(18, "bytes of a line of the image")
    row_lines: int = bits(5, "lines from one output row to the next")
    row_step: int = bits(LOCAL_ADDR_BITS, "bytes from one output row's window to the next one's")
    col_step: int = bits(18, "bytes from one vector to the next")
    ky_count: int = bits(6, "steps over kernel lines", count=True)
    ky_lines: int = bits(6, "lines from one kernel line to the next")
    ky_step: int = bits(LOCAL_ADDR_BITS, "bytes from one kernel line to the next")
    kx_count: int = bits(6, "steps along the line", count=True)
    kx_step: int = bits(18, "bytes from one step along the line to the next")
    chunk_count: int = bits(11, "chunks of a run", count=True)
    chunk_step: int = bits(8, "bytes from one chunk to the next")
    lanes: int = bits(6, "valid lanes of a vector", count=True)
    lanes_last: int = bits(6, "valid lanes of a vector in the last chunk", count=True)
    weight_rows: int = bits(6, "weight rows stored for a tile; rows above are zero", count=True)
    weight_rows_last: int = bits(6, "the same for a tile of the last chunk", count=True)


@dataclass(frozen=True, kw_only=True)
class Pass(Instruction):
    """Stream vectors through the array into the accumulators, by the last `GEOMETRY`.

    For each tile step, the weight tile is `weight_rows` consecutive words of the weight buffer,
    row 0 first; with `EACH` the tiles of the steps follow each other without gap. Then
    `rows * line_vectors + tail` vectors are streamed: vector s is column `s % line_vectors` of
    row `s // line_vectors`.

    Dense: sum s is, for each column c, sum over lanes r of vector[s][r] * weight[r][c].
    Depthwise: sum s is sum over array rows r of feed[j][s + r - j * G][c] * weight[r][c], with
    G = R // F, j = min(r // G, F - 1); vectors past the end of the stream count as zero.
    Sums with `s % line_vectors < cols` and `s // line_vectors < rows` go to accumulator row
    `acc + (s // line_vectors) * cols + s % line_vectors` by `first_op` in the first tile step and
    by `next_op` in the others; other sums are dropped. All arithmetic is int32 and wraps.
    """

    OPCODE = Opcode.PASS
    ENGINE = Engine.EXECUTE

    weights: WeightMode = bits(2, "source of the weight tiles", enum=WeightMode)
    first_op: AccOp = bits(2, "accumulator operation of the first tile step", enum=AccOp)
    next_op: AccOp = bits(2, "accumulator operation of the other tile steps", enum=AccOp)
    weight_addr: int = bits(16, "word of the weight buffer where the first tile starts")
    addr: int = bits(WINDOW_ADDR_BITS, "local byte address addr0", signed=True)
    y: int = bits(15, "line y0", signed=True)
    x: int = bits(19, "byte x0 in the line", signed=True)
    acc: int = bits(11, "accumulator row of the first output")
    rows: int = bits(11, "output rows", count=True)
    cols: int = bits(11, "outputs of a row", count=True)
    line_vectors: int = bits(11, "vectors streamed for a row, at least `cols`", count=True)
    tail: int = bits(5, "vectors streamed after the last row")


@dataclass(frozen=True, kw_only=True)
class Quantize(Instruction):
    """Set how the drains that follow turn sums into bytes.

    value = clamp(requantize(sum + bias) + zero_point, low, high), with the rounding named here and
    multiplier and shift from here or, if `per_channel`, from the parameters. With s = sum + bias:

    DOUBLE: s << shift if the shift is positive (int32, wraps), times multiplier / 2^31, rounded with
    ties to plus infinity, then divided by 2^-shift, rounded with ties away from zero.
    SINGLE: s * multiplier * 2^(shift - 31), rounded once, ties away from zero.
    FLOAT32: s rounded to a significand of 24 bits, times the float32 number of which `multiplier`
    holds the bits, rounded to 24 bits, rounded to an integer, all with ties to even. The
    multiplier should be positive and normal: an exponent field of 255 is taken for a number like
    the others, and that of 0 and every negative number give 0. The shift has no effect.
    AVERAGE: s * multiplier / 2^31, rounded with ties away from zero. The shift has no effect.
    """

    OPCODE = Opcode.QUANTIZE
    ENGINE = Engine.DRAIN

    rounding: Rounding = bits(2, "rounding rule", enum=Rounding)
    per_channel: int = bits(1, "multiplier and shift come from the parameters")
    multiplier: int = bits(32, "Q31 multiplier; the bits of a float32 for FLOAT32", signed=True)
    shift: int = bits(8, "binary exponent, positive is left", signed=True)
    zero_point: int = bits(8, "zero point of the output", signed=True)
    low: int = bits(8, "smallest output", signed=True)
    high: int = bits(8, "largest output", signed=True)


@dataclass(frozen=True, kw_only=True)
class Elementwise(Instruction):
    """Set the two-operand unit used by residual drains and by `VECTOR`.

    ADD: value = clamp(rescale(rescale((a - a_zero) << left_shift, a_multiplier, a_shift)
    + rescale((b - b_zero) << left_shift, b_multiplier, b_shift), out_multiplier, out_shift)
    + out_zero, low, high), with double rounding throughout.

    MUL: value = clamp(rescale((a - a_zero) * (b - b_zero), out_multiplier, out_shift) + out_zero,
    low, high), with double rounding; the other multipliers and shifts have no effect.

    SUM: value = clamp(round(((a - a_zero) * a_multiplier + (b - b_zero) * b_multiplier)
    * 2^(out_shift - 31) + out_zero), low, high), exact up to one rounding with ties to even; the
    other multipliers and shifts have no effect.

    PRODUCT: value = clamp(round((a - a_zero) * (b - b_zero) * out_multiplier * 2^(out_shift - 31)
    + out_zero), low, high), exact up to one rounding with ties to even; the other multipliers and
    shifts have no effect.

    `out_shift` is at most 0 for ADD and MUL.
    """

    OPCODE = Opcode.ELEMENTWISE
    ENGINE = Engine.DRAIN

    op: ElementwiseOp = bits(3, "operation", enum=ElementwiseOp)
    left_shift: int = bits(5, "bits of headroom given to both operands")
    a_zero: int = bits(8, "zero point of operand a", signed=True)
    a_multiplier: int = bits(32, "Q31 multiplier of operand a", signed=True)
    a_shift: int = bits(6, "binary exponent of operand a, at most 0", signed=True)
    b_zero: int = bits(8, "zero point of operand b", signed=True)
    b_multiplier: int = bits(32, "Q31 multiplier of operand b", signed=True)
    b_shift: int = bits(6, "binary exponent of operand b, at most 0", signed=True)
    out_multiplier: int = bits(32, "Q31 multiplier of the sum or product", signed=True)
    out_shift: int = bits(6, "binary exponent of the sum or product", signed=True)
    out_zero: int = bits(8, "zero point of the output", signed=True)
    low: int = bits(8, "smallest output", signed=True)
    high: int = bits(8, "largest output", signed=True)


@dataclass(frozen=True, kw_only=True)
class Drain(Instruction):
    """Turn accumulators into bytes of the scratchpad.

    Output (row, col) is made of the accumulator rows `acc + ((row * cols) + col) * reduce + k`,
    k < reduce, added up (int32, wraps), then quantized per column by the last `QUANTIZE`, then
    looked up in `table` if `use_table`, then combined as operand a with byte
    `residual + row * residual_row_step + col * residual_col_step + column` as operand b by the last
    `ELEMENTWISE` if `use_residual`. Columns 0 to `lanes - 1` (`lanes_last - 1` for the last output
    of a row) are written to bytes `addr + row * row_step + col * col_step + column`.
    Parameters: words at `param_addr`: ceil(4C/W) words of int32 biases, then, if `per_channel`,
    as many of int32 multipliers and ceil(C/W) of int8 shifts; W is the word's bytes.
    """

    OPCODE = Opcode.DRAIN
    ENGINE = Engine.DRAIN

    acc: int = bits(11, "accumulator row of the first output")
    rows: int = bits(11, "output rows", count=True)
    cols: int = bits(11, "outputs of a row", count=True)
    reduce: int = bits(11, "accumulator rows added up for an output", count=True)
    lanes: int = bits(6, "columns written", count=True)
    lanes_last: int = bits(6, "columns written for the last output of a row", count=True)
    params: ParamMode = bits(2, "source of the parameters", enum=ParamMode)
    param_addr: int = bits(12, "word of the parameter memory where the parameters start")
    use_table: int = bits(1, "look the value up in a table")
    table: int = bits(2, "table")
    use_residual: int = bits(1, "combine the value with a byte of the scratchpad")
    addr: int = bits(LOCAL_ADDR_BITS, "local byte address of the first output")
    row_step: int = bits(LOCAL_ADDR_BITS, "bytes from one output row to the next")
    col_step: int = bits(16, "bytes from one output to the next")
    residual: int = bits(LOCAL_ADDR_BITS, "local byte address of the first residual operand")
    residual_row_step: int = bits(LOCAL_ADDR_BITS, "bytes between rows of the residual operand")
    residual_col_step: int = bits(16, "bytes between columns of the residual operand")


@dataclass(frozen=True, kw_only=True)
class Vector(Instruction):
    """Make rows of bytes from rows of bytes of the scratchpad.

    For each row and each byte i < length: `addr + row * row_step + i` becomes, by `op`, the byte a
    at `a + row * a_step + i`; its entry in `table`; or its combination with the byte b at
    `b + row * b_step + i` by the last `ELEMENTWISE`. Source and destination must not overlap
    unless they are the same bytes.
    """

    OPCODE = Opcode.VECTOR
    ENGINE = Engine.DRAIN

    op: VectorOp = bits(2, "operation", enum=VectorOp)
    table: int = bits(2, "table")
    rows: int = bits(12, "rows", count=True)
    length: int = bits(18, "bytes of a row", count=True)
    addr: int = bits(LOCAL_ADDR_BITS, "local byte address of the result")
    row_step: int = bits(LOCAL_ADDR_BITS, "bytes from one row of the result to the next")
    a: int = bits(LOCAL_ADDR_BITS, "local byte address of operand a")
    a_step: int = bits(LOCAL_ADDR_BITS, "bytes from one row of operand a to the next")
    b: int = bits(LOCAL_ADDR_BITS, "local byte address of operand b")
    b_step: int = bits(LOCAL_ADDR_BITS, "bytes from one row of operand b to the next")


INSTRUCTIONS: dict[Opcode, type[Instruction]] = {
    cls.OPCODE: cls
    for cls in (Halt, Load, Store, Geometry, Pass, Quantize, Elementwise, Drain, Vector)
}
