"""Formulas of one activation as tables: all 256 codes, computed as onnxruntime computes them.

Everything is float32 with the roundings of the runtime's kernels. Its sigmoid and tanh are rational
approximations, evaluated here with the same coefficients and fused multiply-adds.

Source: onnxruntime core/mlas/lib/logistic.cpp and tanh.cpp (coefficients as in Eigen); operators
without a kernel of their own follow the ONNX operator schemas.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch import float32
from systolith.compiler.ir import Int8Array, Tensor

Floats = NDArray[np.float32]
Tree = tuple[Any, ...]

_LOGISTIC_RANGE = 18.0
_LOGISTIC_P = (
    4.37031012579801e-11,
    1.15627324459942e-07,
    6.08574864600143e-05,
    8.51377133304701e-03,
    2.48287947061529e-01,
)
_LOGISTIC_Q = (
    6.10247389755681e-13,
    5.76102136993427e-09,
    6.29106785017040e-06,
    1.70198817374094e-03,
    1.16817656904453e-01,
    9.93151921023180e-01,
)
_TANH_RANGE = 9.0
_TANH_P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


def codes(dtype: str) -> NDArray[np.int64]:
    """Return all codes of an element type in ascending order."""
    limits = np.iinfo(dtype)
    return np.arange(limits.min, limits.max + 1, dtype=np.int64)


def table(tree: Tree, input: Tensor, output: Tensor) -> Int8Array:
    """Return the table of a formula: entry `v mod 256` for the int8 value v.

    Both sides are int8 inside the accelerator, whatever the model's types are.
    """
    values = np.float32(input.scale) * (codes(input.dtype) - input.zero_point).astype(np.float32)
    with np.errstate(all="ignore"):
        real = evaluate(tree, values)
    # The runtime's clamp takes its lower bound for what is no number, as the root of a negative.
    real = np.where(np.isnan(real), np.float32(-np.inf), real)
    results = float32.quantize_linear(real, output.scale, output.zero_point, output.dtype)
    return arrange(results, output.dtype)


def arrange(results: NDArray[np.int64], dtype: str) -> Int8Array:
    """Return the results for ascending codes as a table of int8 by `code mod 256`."""
    inner = (results - (0 if dtype == "int8" else 128)).astype(np.int8)
    half = len(inner) // 2
    return np.concatenate([inner[half:], inner[:half]])


def evaluate(tree: Tree, values: Floats) -> Floats:
    """Return the formula's float32 values for an input."""
    if tree[0] == "input":
        return values
    if tree[0] == "constant":
        return np.full_like(values, np.float32(tree[1]))
    kind, operands, attributes = tree
    arguments = [evaluate(operand, values) for operand in operands]
    return _FUNCTIONS[kind](dict(attributes), *arguments).astype(np.float32)


def _fused(a: Floats, b: Floats, c: float) -> Floats:
    """Return `a * b + c` with one rounding; the product of two float32 is exact in float64."""
    return (a.astype(np.float64) * b + np.float64(np.float32(c))).astype(np.float32)


def _horner(square: Floats, coefficients: tuple[float, ...]) -> Floats:
    result = np.full_like(square, np.float32(coefficients[0]))
    for coefficient in coefficients[1:]:
        result = _fused(result, square, coefficient)
    return result


def _rational(x: Floats, limit: float, p: tuple[float, ...], q: tuple[float, ...]) -> Floats:
    bounded = np.clip(x, np.float32(-limit), np.float32(limit))
    square = bounded * bounded
    result: Floats = _horner(square, p) * bounded / _horner(square, q)
    return result


def _sigmoid(_: Mapping[str, Any], x: Floats) -> Floats:
    half = np.float32(0.5)
    raised = _rational(x, _LOGISTIC_RANGE, _LOGISTIC_P, _LOGISTIC_Q) + half
    result: Floats = np.clip(raised, np.float32(0.0), np.float32(1.0))
    return result


def _tanh(_: Mapping[str, Any], x: Floats) -> Floats:
    return _rational(x, _TANH_RANGE, _TANH_P, _TANH_Q)


def _erf(_: Mapping[str, Any], x: Floats) -> Floats:
    return np.array([math.erf(float(value)) for value in x], np.float32)


def _gelu(attributes: Mapping[str, Any], x: Floats) -> Floats:
    wide = x.astype(np.float64)
    if attributes.get("approximate", "none") == "tanh":
        inner = math.sqrt(2.0 / math.pi) * (wide + 0.044715 * wide**3)
        return np.asarray(0.5 * wide * (1.0 + np.tanh(inner)), np.float32)
    cumulative = np.array([math.erf(value / math.sqrt(2.0)) for value in wide])
    return np.asarray(0.5 * wide * (1.0 + cumulative), np.float32)


def _hard_sigmoid(attributes: Mapping[str, Any], x: Floats) -> Floats:
    alpha, beta = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    line = np.float32(alpha) * x + np.float32(beta)
    result: Floats = np.clip(line, np.float32(0.0), np.float32(1.0))
    return result


def _hard_swish(_: Mapping[str, Any], x: Floats) -> Floats:
    return x * _hard_sigmoid({"alpha": 1.0 / 6.0, "beta": 0.5}, x)


def _leaky_relu(attributes: Mapping[str, Any], x: Floats) -> Floats:
    return np.where(x >= 0, x, np.float32(attributes.get("alpha", 0.01)) * x)


def _elu(attributes: Mapping[str, Any], x: Floats) -> Floats:
    return np.where(x >= 0, x, np.float32(attributes.get("alpha", 1.0)) * np.expm1(x))


def _clip(attributes: Mapping[str, Any], x: Floats) -> Floats:
    low, high = attributes["low"], attributes["high"]
    bounded = x if low is None else np.maximum(x, np.float32(low))
    return bounded if high is None else np.minimum(bounded, np.float32(high))


def _plain(function: Callable[..., Floats]) -> Callable[..., Floats]:
    return lambda _, *operands: function(*operands)


_FUNCTIONS: Mapping[str, Callable[..., Floats]] = {
    "Abs": _plain(np.abs),
    "Add": _plain(np.add),
    "Clip": _clip,
    "Div": _plain(np.divide),
    "Elu": _elu,
    "Erf": _erf,
    "Exp": _plain(np.exp),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "Max": _plain(np.maximum),
    "Min": _plain(np.minimum),
    "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative),
    "Pow": _plain(np.power),
    "Relu": _clip,
    "Sigmoid": _sigmoid,
    "Softplus": _plain(lambda x: np.logaddexp(x, np.float32(0.0))),
    "Sqrt": _plain(np.sqrt),
    "Sub": _plain(np.subtract),
    "Tanh": _tanh,
}
