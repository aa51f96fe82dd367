"""What a mixture says of a row, all of it from one evaluation: label, probability, density, whether an outlier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import InputError
from streamgmm.gaussian.e_step import Evaluation, evaluate
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.sources.base import Block, Provenance
from streamgmm.typing import Floats

#: What can be said of a row.
SCORES = ("label", "probability", "log_density", "outlier", "responsibilities")
_FLOAT_TYPES = ("float64", "float32")


@dataclass(frozen=True)
class ScoreColumn:
    """A result for each row.

    Attributes
    ----------
    name : str
    dtype : dtype
    n_columns : int or None
        None for one value for each row.
    of : str
        What labels and responsibilities are of: "component" or "cluster".
    long_name : str
    """

    name: str
    dtype: np.dtype[Any]
    n_columns: int | None
    of: str
    long_name: str

    @property
    def row_bytes(self) -> int:
        """Bytes for one row."""
        return self.dtype.itemsize * (self.n_columns or 1)

    @property
    def names(self) -> list[str]:
        """Names of its columns in a table."""
        return [self.name] if self.n_columns is None else [f"{self.name}_{k}" for k in range(self.n_columns)]


@dataclass(frozen=True)
class Scores:
    """Results for some rows.

    Attributes
    ----------
    values : dict of ndarray
        Of shape (n,), or (n, n_columns), by the names in `SCORES`.
    n_missing : int
        Rows with a missing value: their label is -1, their densities and probabilities NaN; they are no outliers.
    """

    values: dict[str, npt.NDArray[Any]]
    n_missing: int


@dataclass(frozen=True)
class Scorer:
    """Evaluates a mixture at blocks of rows.

    Attributes
    ----------
    write : tuple of str
        Of `SCORES`.
    missing : str
        "raise" or "drop".
    provenance : Provenance
        For the error where a value is missing.
    clusters : tuple of int, or None
        The cluster of each component, where labels and probabilities are of these.
    threshold : float, or None
        Nats: rows of a lower density are outliers.
    float_type : str
        "float64", or "float32": of densities and probabilities.
    """

    write: tuple[str, ...]
    missing: str
    provenance: Provenance
    clusters: tuple[int, ...] | None = None
    threshold: float | None = None
    float_type: str = "float64"

    @property
    def of(self) -> str:
        """What labels and probabilities are of."""
        return "component" if self.clusters is None else "cluster"

    def count_labels(self, n_components: int) -> int:
        """Return how many labels there are."""
        return n_components if self.clusters is None else max(self.clusters) + 1

    def columns(self, n_components: int) -> dict[str, ScoreColumn]:
        """Return what there will be for each row, by the names in `SCORES`."""
        n_labels, floats, of = self.count_labels(n_components), np.dtype(self.float_type), self.of
        known = {
            "label": ScoreColumn(
                "label", smallest_label_dtype(n_labels), None, of, f"most probable {of}, -1 where a value is missing"
            ),
            "probability": ScoreColumn("probability", floats, None, of, f"probability of the most probable {of}"),
            "log_density": ScoreColumn("log_density", floats, None, of, "log-density, in nats"),
            "outlier": ScoreColumn("outlier", np.dtype(np.bool_), None, of, "whether a row is an outlier"),
            "responsibilities": ScoreColumn("proba", floats, n_labels, of, f"responsibility of the {of}"),
        }
        return {name: known[name] for name in self.write}

    def __call__(self, block: Block, parameters: MixtureParameters) -> Scores:
        merged = self.clusters is not None
        density = not {"log_density", "outlier"}.isdisjoint(self.write)
        resp = not {"probability", "responsibilities"}.isdisjoint(self.write) or (merged and "label" in self.write)
        labels = "label" in self.write and not merged
        if density and (resp or labels) and parameters.family.shared:
            # Labels and responsibilities of a shared covariance come from another arithmetic than its density: each is
            # what is given where it is asked for alone.
            found = replace(
                evaluate(block.x, parameters, resp=resp, labels=labels),
                log_prob=evaluate(block.x, parameters, log_prob=True).log_prob,
            )
        else:
            found = evaluate(block.x, parameters, log_prob=density, resp=resp, labels=labels)
        if found.n_missing and self.missing == "raise":
            raise self.provenance.missing_values_error(
                block.start + found.first_missing, None, found.n_missing, of_all=False
            )
        if merged and resp:
            found = replace(found, resp=self._sum_by_cluster(found.resp))
        columns = self.columns(parameters.n_components)
        values = {name: self._value(name, found).astype(column.dtype, copy=False) for name, column in columns.items()}
        return Scores(values, found.n_missing)

    def _value(self, name: str, found: Evaluation) -> npt.NDArray[Any]:
        if name == "label":
            if self.clusters is None:
                return found.labels
            return np.where(np.isnan(found.resp[:, 0]), -1, found.resp.argmax(axis=1))
        if name == "probability":
            return np.asarray(found.resp.max(axis=1))
        if name == "log_density":
            return found.log_prob
        if name == "outlier":
            # NaN is below nothing: a row of which nothing is known is no outlier.
            return found.log_prob < (-np.inf if self.threshold is None else self.threshold)
        return found.resp

    def _sum_by_cluster(self, resp: Floats) -> Floats:
        of = np.array(self.clusters)
        return np.stack([resp[:, of == cluster].sum(axis=1) for cluster in range(of.max() + 1)], axis=1)


def check_scores(write: Sequence[str] | str) -> tuple[str, ...]:
    """Return the results that a user asks for.

    Raises
    ------
    InputError
        If there is none such, or one is named twice.
    """
    names = (write,) if isinstance(write, str) else tuple(write)
    for name in names:
        if name not in SCORES:
            raise InputError(f"write names {name!r}; expected some of {', '.join(map(repr, SCORES))}")
        if names.count(name) > 1:
            raise InputError(f"write names {name!r} {names.count(name)} times")
    if not names:
        raise InputError(f"write names nothing; expected some of {', '.join(map(repr, SCORES))}")
    return names


def check_outlier_options(write: Sequence[str], rate: float | None, threshold: float | None) -> None:
    """Raise InputError unless outliers are asked for with one of what tells them, or not at all."""
    if "outlier" not in write:
        if rate is not None or threshold is not None:
            raise InputError("outlier_rate and outlier_threshold are for outliers: name 'outlier' in write too")
        return
    if (rate is None) == (threshold is None):
        raise InputError("give outlier_rate or outlier_threshold, one of them: by it rows are outliers")


def check_float_type(float_type: str) -> None:
    """Raise InputError unless it is a type that densities and probabilities can be given in."""
    if float_type not in _FLOAT_TYPES:
        raise InputError(f"float_type must be one of {', '.join(map(repr, _FLOAT_TYPES))}; got {float_type!r}")


def smallest_label_dtype(n_labels: int) -> np.dtype[Any]:
    """Return the smallest dtype of integers that holds -1 and labels below a number.

    Examples
    --------
    >>> smallest_label_dtype(128), smallest_label_dtype(129)
    (dtype('int8'), dtype('int16'))
    """
    return np.result_type(np.min_scalar_type(-1), np.min_scalar_type(-n_labels))
