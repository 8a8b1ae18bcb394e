"""The figures of the suite as JSON, and back."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from systolith.arch.errors import InputError
from systolith.bench.layer_bars import LayerFigures
from systolith.bench.suite import Figures


@dataclass
class Report:
    """Everything that a run of the suite measures.

    Parameters
    ----------
    networks : list of Figures
        Of whole networks.
    layers : list of LayerFigures
        Of layers that were measured by themselves.
    """

    networks: list[Figures] = field(default_factory=list)
    layers: list[LayerFigures] = field(default_factory=list)

    def to_json(self) -> str:
        """Return everything as text, a line for each figure."""
        networks = [
            {**dataclasses.asdict(figure), "prediction_error": figure.prediction_error}
            for figure in self.networks
        ]
        layers = [dataclasses.asdict(layer) for layer in self.layers]
        return f'{{"networks": {_lines(networks)}, "layers": {_lines(layers)}}}\n'


def read_report(paths: Sequence[Path]) -> Report:
    """Return what is in files that :meth:`Report.to_json` wrote, in order.

    Raises
    ------
    InputError
        A file has something else.
    """
    report = Report()
    for path in paths:
        try:
            items = json.loads(path.read_text(encoding="utf-8"))
            report.networks += [_figures(item) for item in items["networks"]]
            report.layers += [LayerFigures(**item) for item in items["layers"]]
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f'File "{path}" must have figures of systolith bench: {error}'
            ) from error
    return report


def _lines(items: Sequence[Mapping[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]"


def _figures(item: dict[str, Any]) -> Figures:
    names = {entry.name for entry in dataclasses.fields(Figures)}
    known = {name: value for name, value in item.items() if name in names}
    return Figures(**{**known, "layers": [LayerFigures(**layer) for layer in known["layers"]]})
