"""What a rule about models is: a function whose docstring is the rule, and how rules are run.

A rule looks at one operator and yields a verdict for each tensor that it speaks of. Message, error
and the public table of operators are all made from it.
"""

import enum
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir import Graph, Operator, Tensor
from systolith.compiler.signatures import SIGNATURES, Signature

QUANTIZE = "convert the model with full-integer int8 quantization"
STATIC = "convert the model with a fixed input shape"
DAMAGED = "the file is damaged, export the model again"


class Stage(enum.IntEnum):
    """When a rule is checked; the rules of a stage rely on those of the stages before."""

    ARITY = 0
    FORM = 1
    GEOMETRY = 2
    ARITHMETIC = 3


class Verdict(NamedTuple):
    """Whether a tensor of an operator obeys a rule, and what was found."""

    ok: bool
    tensor: str
    value: object


@dataclass(frozen=True, eq=False)
class Site:
    """One operator with its tensors; `systolith.compiler.signatures` says which input is what."""

    graph: Graph
    operator: Operator

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return self.operator.kind

    @property
    def signature(self) -> Signature:
        """What the operator's inputs are."""
        return SIGNATURES[self.operator.kind]

    @property
    def outputs(self) -> list[Tensor]:
        """All outputs."""
        return [self.graph.tensors[name] for name in self.operator.outputs]

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.graph.tensors[self.operator.outputs[0]]

    def find(self, position: int) -> Tensor | None:
        """Return an input, or None if it is left out."""
        if position >= len(self.operator.inputs):
            return None
        name = self.operator.inputs[position]
        return None if name is None else self.graph.tensors[name]

    def input(self, position: int = 0) -> Tensor:
        """Return an input that the rules of arity demand."""
        tensor = self.find(position)
        assert tensor is not None
        return tensor

    @property
    def operands(self) -> list[Tensor]:
        """Activations read."""
        positions = self.signature.activations or range(len(self.operator.inputs))
        return [self.input(position) for position in positions]

    @property
    def source(self) -> Tensor:
        """The first activation read."""
        return self.operands[0]

    @property
    def weights(self) -> Tensor:
        """Weights of an operator that has them."""
        return self.input(1)

    @property
    def bias(self) -> Tensor | None:
        """Bias of an operator with weights."""
        return self.find(3 if self.kind == "TRANSPOSE_CONV" else 2)

    @property
    def channel_axis(self) -> int:
        """Axis of the weights that numbers the output channels."""
        return 3 if self.kind == "DEPTHWISE_CONV_2D" else 0

    @property
    def out_channels(self) -> int:
        """Output channels of the weights, whatever their shape."""
        shape = self.weights.shape
        return shape[self.channel_axis] if self.channel_axis < len(shape) else 0

    @property
    def activations(self) -> list[Tensor]:
        """Activations read, then those written."""
        return [*self.operands, *self.outputs]

    def fresh_name(self, role: str) -> str:
        """Return a name for a tensor of our own that no tensor of the model has."""
        name = f"{self.output.name}/{role}"
        while name in self.graph.tensors:
            name += "'"
        return name

    def parameter(self, position: int) -> NDArray[np.int64]:
        """Return the contents of a constant shape, axis or the like."""
        return np.asarray(self.input(position).data, np.int64)


Check = Callable[[Site], Iterable[Verdict]]


@dataclass(frozen=True, eq=False)
class Rule:
    """One restriction.

    Parameters
    ----------
    check : callable
        Yields verdicts about a site; the first sentence of its docstring is the rule.
    kinds : tuple of str
        Operators that it applies to.
    stage : Stage
        When it is checked.
    remedy : str
        What the user can do.
    limits : mapping
        Values of the names in braces in the docstring.
    """

    check: Check
    kinds: tuple[str, ...]
    stage: Stage
    remedy: str
    limits: Mapping[str, object]

    @property
    def text(self) -> str:
        """The rule as a sentence without full stop."""
        lines = (self.check.__doc__ or "").strip().split("\n\n")[0].split()
        return " ".join(lines).format(**self.limits).rstrip(".")

    def broken(self, site: Site) -> Iterator[str]:
        """Yield a reason for each tensor of the site that breaks the rule."""
        for verdict in self.check(site):
            if not verdict.ok:
                yield reason(
                    site.operator, verdict.tensor, f"{self.text}, not {verdict.value}", self.remedy
                )


def register(
    registry: list[Rule],
    stage: Stage,
    kinds: tuple[str, ...],
    remedy: str,
    **limits: object,
) -> Callable[[Check], Check]:
    """Return a decorator that makes a function a rule and adds it to a registry."""

    def add(check: Check) -> Check:
        registry.append(Rule(check, kinds, stage, remedy, limits))
        return check

    return add


def reason(operator: Operator, tensor: str, rule: str, remedy: str) -> str:
    """Return one sentence about an operator: where, tensor, rule and value, remedy."""
    rule = rule[0].lower() + rule[1:]
    return f'Operator {operator.index} ({operator.kind}), tensor "{tensor}": {rule}; {remedy}'


def reasons(graph: Graph, operator: Operator, rules: Iterable[Rule]) -> list[str]:
    """Return every reason of the first stage that has one."""
    site = Site(graph, operator)
    found: list[str] = []
    for stage in Stage:
        for rule in rules:
            if rule.stage == stage and operator.kind in rule.kinds:
                found.extend(rule.broken(site))
        if found:
            break
    return found


def tables(rules: Sequence[Rule], kinds: Sequence[str]) -> Iterator[str]:
    """Yield the lines of Markdown tables: rules of every operator, then those of each kind."""
    general = [rule for rule in rules if rule.kinds == kinds]
    sections = {"Every operator": general}
    for kind in kinds:
        sections[kind] = [rule for rule in rules if kind in rule.kinds and rule not in general]
    for title, found in sections.items():
        yield f"\n## {title}\n\n| rule | if it is broken |\n| --- | --- |"
        yield from (f"| {rule.text} | {rule.remedy} |" for rule in found)


def kernel_size(site: Site) -> tuple[int, ...]:
    """Return height and width of the window of a convolution or pool."""
    if "filter" in site.operator.attributes:
        return tuple(site.operator.attributes["filter"])
    return site.weights.shape[1:3]


def elements(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a tensor."""
    return math.prod(shape)
