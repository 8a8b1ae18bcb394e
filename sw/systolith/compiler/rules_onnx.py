"""The rules that an ONNX model must obey, in the manner of `rules`.

Each is one function in `rules_onnx_form`, `rules_onnx_geometry` or `rules_onnx_arithmetic`; all broken
ones are reported at once. Operators are those that `frontend.onnx_qdq` makes of a model in QDQ form.
"""

from collections.abc import Iterator

from systolith.arch.errors import UnsupportedModelError
from systolith.compiler import rules_onnx_arithmetic, rules_onnx_form, rules_onnx_geometry
from systolith.compiler.ir import Graph, Operator
from systolith.compiler.layout_onnx import Orders
from systolith.compiler.ruleset import Rule, Stage, reason
from systolith.compiler.ruleset_onnx import ALL, DTYPES, QDQ, OnnxSite

RULES: tuple[Rule, ...] = (
    *rules_onnx_form.RULES,
    *rules_onnx_geometry.RULES,
    *rules_onnx_arithmetic.RULES,
)


def check(graph: Graph) -> None:
    """Check a whole model against all rules.

    Raises
    ------
    UnsupportedModelError
        With a reason for each broken rule.
    """
    found = list(_model_reasons(graph))
    for operator in graph.operators:
        found.extend(_reasons(graph, operator))
    if not found:
        for operator, tensor, text in Orders(graph).problems:
            broken = f"elements must lie in an order that the operator can use, not {text}"
            remedy = "remove transposes and reshapes before it"
            found.append(reason(operator, tensor, broken, remedy))
    if found:
        raise UnsupportedModelError(found)


def _reasons(graph: Graph, operator: Operator) -> list[str]:
    """Return every reason of the first stage that has one."""
    if operator.kind not in ALL:
        broken = f"operator must be one of {', '.join(ALL)}, not {operator.kind}"
        remedy = "replace the operator in the model, or quantize its result"
        return [reason(operator, operator.outputs[0], broken, remedy)]
    site = OnnxSite(graph, operator)
    found: list[str] = []
    for stage in Stage:
        for rule in RULES:
            if rule.stage == stage and operator.kind in rule.kinds:
                found.extend(rule.broken(site))
        if found:
            break
    return found


def _model_reasons(graph: Graph) -> Iterator[str]:
    """Yield the broken rules about the model as a whole."""
    if not graph.operators:
        yield f'Model "{graph.name}" must have an operator, not none; export it again'
    made = {name for operator in graph.operators for name in operator.outputs}
    for name in graph.outputs:
        if name not in made:
            yield (
                f'Output "{name}" of the model must be made by an operator, '
                "not be an input or a constant; remove it from the outputs"
            )
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if (
            tensor.dtype not in DTYPES
            or len(tensor.scales) != 1
            or min(tensor.shape, default=0) < 1
        ):
            yield (
                f'Input "{name}" of the model must be quantized to int8 or uint8 by the first '
                f"operator and have a static shape, not {tensor.dtype} {list(tensor.shape)}; {QDQ}"
            )
    for side, names in (("Inputs", graph.inputs), ("Outputs", graph.outputs)):
        if not names or len(set(names)) < len(names):
            yield (
                f"{side} of the model must be different tensors and at least one, "
                f"not {', '.join(names) or 'none'}; export the model with each listed once"
            )
