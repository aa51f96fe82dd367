"""What a fitted mixture shows of itself, as text and in notebooks."""

from __future__ import annotations

import html

import numpy as np

from streamgmm.estimators.exchange import PortableMixture
from streamgmm.fitting.display import show_facts, show_spread, show_table
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.typing import Integers

#: Components and features that are shown, at most.
_COMPONENTS, _FEATURES = 10, 5


class SelfDescribingMixture(PortableMixture):
    """A mixture that shows what was found."""

    def __str__(self) -> str:
        """Show what was found; before a fit the parameters, as `repr` has them."""
        return as_text(self) if hasattr(self, "means_") else repr(self)

    def _html_repr(self) -> str:
        diagram: str = super()._html_repr()
        return as_html(self) + diagram if hasattr(self, "means_") else diagram


def as_text(model: SelfDescribingMixture) -> str:
    """Return what was found: how the fit ended, and the largest components."""
    parameters = model._parameters()
    features = _features_shown(parameters)
    columns = [("component", True), ("weight", True), *((name, True) for name in _names(model, features))]
    table = show_table(columns, _rows(model, parameters, features))
    facts = show_facts(_heading(model, parameters), _facts(model))
    return "\n".join([facts, "", table, *_left_out(parameters, features)])


def as_html(model: SelfDescribingMixture) -> str:
    """Return the same as a table of HTML, with a bar for each weight."""
    parameters = model._parameters()
    features = _features_shown(parameters)
    largest = float(parameters.weights.max())
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in ("component", "weight", *_names(model, features)))
    rows = []
    for k, (name, weight, *cells) in zip(_largest(parameters), _rows(model, parameters, features), strict=True):
        width = 6.0 * float(parameters.weights[k]) / largest
        bar = f'<div style="background:#4c78a8;height:.6em;width:{width:.2f}em;display:inline-block"></div> {weight}'
        values = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr><td>{name}</td><td style="text-align:left">{bar}</td>{values}</tr>')
    facts = "; ".join(f"{name} {text}" for name, text in _facts(model))
    notes = "".join(f"<div>{html.escape(line)}</div>" for line in _left_out(parameters, features))
    return (
        f"<div><b>{html.escape(_heading(model, parameters))}</b><div>{html.escape(facts)}</div>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>{notes}</div>"
    )


def _heading(model: SelfDescribingMixture, parameters: MixtureParameters) -> str:
    name = f"{model.name_}: " if getattr(model, "name_", None) else ""
    clusters = f" in {int(model.clusters_.max()) + 1} clusters" if hasattr(model, "clusters_") else ""
    return (
        f"{name}GaussianMixture of {_count(parameters.n_components, 'component')}{clusters} and "
        f"{_count(parameters.n_features, 'feature')}, {parameters.covariance_type} covariances"
    )


def _facts(model: SelfDescribingMixture) -> list[tuple[str, str]]:
    facts = [("ended", model.stop_reason_.value)]
    if np.isfinite(model.lower_bound_):
        facts.append(("lower bound", f"{model.lower_bound_:.6g} nats per row"))
    training = getattr(model, "training_summary_", None)
    if training is not None:
        missing = f", {training.n_missing:,} left out" if training.n_missing else ""
        facts.append(("rows", f"{training.n_rows:,}{missing}"))
    return facts


def _rows(model: SelfDescribingMixture, parameters: MixtureParameters, features: Integers) -> list[list[str]]:
    deviations = np.sqrt(parameters.variances())
    clusters = [f" (cluster {one})" for one in model.clusters_] if hasattr(model, "clusters_") else None
    return [
        [
            f"{k}{clusters[k] if clusters else ''}",
            f"{parameters.weights[k]:.2%}",
            *(show_spread(float(parameters.means[k, j]), float(deviations[k, j])) for j in features),
        ]
        for k in _largest(parameters)
    ]


def _largest(parameters: MixtureParameters) -> list[int]:
    order: list[int] = np.argsort(-parameters.weights, kind="stable")[:_COMPONENTS].tolist()
    return order


def _features_shown(parameters: MixtureParameters) -> Integers:
    """Return the features to show: those of whose variance most is between the components."""
    return parameters.most_separating(_FEATURES)


def _names(model: SelfDescribingMixture, features: Integers) -> list[str]:
    return [str(model._names()[j]) for j in features]


def _left_out(parameters: MixtureParameters, features: Integers) -> list[str]:
    smaller, others = parameters.n_components - _COMPONENTS, parameters.n_features - len(features)
    said = [f"{_count(smaller, 'smaller component')} not shown"] if smaller > 0 else []
    return [*said, f"{_count(others, 'feature')} that separate them less not shown"] if others else said


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
