"""The parameters of the estimator in one table: what each may be, and what it concerns.

The estimator checks by it, the command line makes its options of it, model files, checkpoints and the search for the
number of components take from it which of them are theirs. The defaults stand in the signature of `GaussianMixture`,
where users look for them.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from streamgmm.exceptions import InputError
from streamgmm.units import parse_memory_limit


class Kind(Protocol):
    """What a parameter may be."""

    def check(self, name: str, value: Any) -> None:
        """Raise InputError, which names the parameter and what was found, unless a value is of the kind."""


@dataclass(frozen=True)
class Integer:
    """An integer of at least `smallest`."""

    smallest: int

    def check(self, name: str, value: Any) -> None:
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))
        if not is_integer or value < self.smallest:
            raise InputError(f"{name} must be an integer of at least {self.smallest}, got {value!r}")


@dataclass(frozen=True)
class Level(Integer):
    """An integer, for which a bool may stand."""

    def check(self, name: str, value: Any) -> None:
        super().check(name, int(value))


@dataclass(frozen=True)
class Number:
    """A finite number of at least 0; "auto" where that is admitted."""

    auto: bool = False

    def check(self, name: str, value: Any) -> None:
        if self.auto and isinstance(value, str):
            Choice(("auto",)).check(name, value)
            return
        is_number = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
        if not is_number or not 0 <= value < float("inf"):
            raise InputError(f"{name} must be a finite number of at least 0, got {value!r}")


@dataclass(frozen=True)
class Choice:
    """One of some texts."""

    options: tuple[str, ...]

    def check(self, name: str, value: Any) -> None:
        if value not in self.options:
            raise InputError(f"{name} must be one of {', '.join(map(repr, self.options))}; got {value!r}")


@dataclass(frozen=True)
class Switch:
    """True, False or "auto"."""

    def check(self, name: str, value: Any) -> None:
        if not isinstance(value, (bool, np.bool_)) and value != "auto":
            raise InputError(f"{name} must be True, False or 'auto'; got {value!r}")


@dataclass(frozen=True)
class Size:
    """Bytes, as a number or a text such as "2GB"; or None."""

    def check(self, name: str, value: Any) -> None:
        parse_memory_limit(value)


@dataclass(frozen=True)
class Callback:
    """A callable, or None."""

    def check(self, name: str, value: Any) -> None:
        if value is not None and not callable(value):
            raise InputError(f"{name} must be callable or None, got {value!r}")


@dataclass(frozen=True)
class CheckedLater:
    """What can only be checked with the rows, or is checked by scikit-learn."""

    def check(self, name: str, value: Any) -> None:
        return


@dataclass(frozen=True)
class Parameter:
    """What there is to know of a parameter.

    Attributes
    ----------
    kind : Kind
        What it may be.
    help : str
        In one line, for the command line; "" where it is no option there.
    saved : bool
        Whether a model file has it: those that are arrays, code or places have done their work when a model is fitted.
    for_many : bool
        Whether it means something where many mixtures are fitted, in `search`.
    identifies : bool
        Whether it tells a fit from others, so that a checkpoint made with another value can't be gone on from.
    """

    kind: Kind
    help: str = ""
    saved: bool = True
    for_many: bool = True
    identifies: bool = True


PARAMETERS: dict[str, Parameter] = {
    "n_components": Parameter(Integer(1), "Number of components."),
    "covariance_type": Parameter(
        Choice(("full", "tied", "diag", "spherical")),
        "A covariance for each component, one for all, or variances only.",
    ),
    "tol": Parameter(Number(), "Stop this close to the optimum, in nats per row."),
    "reg_covar": Parameter(Number(auto=True), "A number to add to the covariances' diagonals, or auto."),
    "max_iter": Parameter(Integer(0), "Most iterations; each reads all rows once.", identifies=False),
    "n_init": Parameter(Integer(1), "Number of starts to choose from."),
    "init_params": Parameter(
        Choice(("sample", "k-means++", "kmeans", "hierarchical", "random", "random_from_data")), "How a start is made."
    ),
    "accelerate": Parameter(Switch(), "Go further than EM from pass to pass, or not."),
    "weights_init": Parameter(CheckedLater(), saved=False, for_many=False),
    "means_init": Parameter(CheckedLater(), saved=False, for_many=False),
    "precisions_init": Parameter(CheckedLater(), saved=False, for_many=False),
    "random_state": Parameter(CheckedLater(), "Seed."),
    "warm_start": Parameter(CheckedLater(), for_many=False),
    "verbose": Parameter(Level(0)),
    "verbose_interval": Parameter(Integer(1), for_many=False),
    "missing": Parameter(
        Choice(("raise", "drop")),
        "Whether rows with NaN or infinity are an error (raise) or left out; a fitted model says which.",
    ),
    "memory_limit": Parameter(
        Size(), 'Memory that a process may use for rows, as in "2GB"; they are read in smaller pieces.'
    ),
    "persist": Parameter(
        Switch(),
        "Keep the rows in memory after the first pass, or not; where a cluster has room for them if not given.",
        saved=False,
        identifies=False,
    ),
    "checkpoint": Parameter(
        CheckedLater(), "Keep the fit's state here after each pass, and go on from it.", saved=False, for_many=False
    ),
    "resume": Parameter(
        Choice(("auto", "must", "never")),
        "Go on from the checkpoint if there is one (auto).",
        saved=False,
        for_many=False,
    ),
    "callback": Parameter(Callback(), saved=False, for_many=False),
}


def check_parameters(values: dict[str, Any]) -> None:
    """Check parameters by themselves; what depends on the rows is checked when these are known.

    Raises
    ------
    InputError
        For the first that is not what it may be.
    """
    for name, value in values.items():
        PARAMETERS[name].kind.check(name, value)
    if values["resume"] == "must" and values["checkpoint"] is None:
        raise InputError("resume='must' needs checkpoint=, the folder to go on from")
