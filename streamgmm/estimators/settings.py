"""An estimator's parameters, turned into what a fit goes by: its settings, its checkpoint."""

from __future__ import annotations

import numbers
import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from sklearn.utils import check_random_state

from streamgmm.checkpoint.checkpoint import Checkpoint, open_checkpoint
from streamgmm.estimators.validation import check_warm_start
from streamgmm.fitting.settings import Settings
from streamgmm.gaussian.covariances import FAMILIES
from streamgmm.initialization.seeding import GivenStart
from streamgmm.sources.base import Rows
from streamgmm.storage.places import InUse, Place, check_checkpoint_apart
from streamgmm.units import parse_memory_limit

if TYPE_CHECKING:
    from streamgmm.estimators.gaussian_mixture import GaussianMixture


def settings_of(model: GaussianMixture, rows: Rows) -> Settings:
    """Check an estimator's parameters, and return what a fit to some rows goes by.

    Raises
    ------
    InputError
    """
    model._check_parameters()
    given: tuple[Any, Any, Any] = (model.weights_init, model.means_init, model.precisions_init)
    n_components = model.n_components
    if model.warm_start and hasattr(model, "means_"):
        check_warm_start(
            model._parameters(),
            model._get_fitted_as()[1],
            covariance_type=model.covariance_type,
            n_components=n_components,
            n_features=rows.n_features,
        )
        given, n_components = (model.weights_, model.means_, model.precisions_), len(model.weights_)
    return Settings(
        n_components=n_components,
        covariance_type=model.covariance_type,
        tol=float(model.tol),
        reg_covar=model.reg_covar if isinstance(model.reg_covar, str) else float(model.reg_covar),
        max_iter=model.max_iter,
        n_init=model.n_init,
        init_params=model.init_params,
        accelerate=model.tol > 0 if model.accelerate == "auto" else bool(model.accelerate),
        given=GivenStart.checked(FAMILIES[model.covariance_type], n_components, rows.n_features, *given),
        missing=model.missing,
        memory_limit=parse_memory_limit(model.memory_limit),
        persist="auto" if model.persist == "auto" else bool(model.persist),
        seed=int(check_random_state(model.random_state).randint(2**31 - 1)),
        seed_given=isinstance(model.random_state, numbers.Integral),
    )


def checkpoint_of(
    model: GaussianMixture, rows: Rows, settings: Settings, places: tuple[Place, ...]
) -> AbstractContextManager[Checkpoint | None]:
    """Open the checkpoint of a fit to rows that are at some places, where the estimator has one.

    Raises
    ------
    InputError
        If it lies among the rows.
    CheckpointError
        If the fit can't go on from what is there.
    """
    if model.checkpoint is None:
        return nullcontext()
    check_checkpoint_apart(model.checkpoint, InUse("the rows", places))
    return open_checkpoint(
        os.fspath(model.checkpoint), rows, settings.identity(), seed=settings.seed, resume=model.resume
    )
