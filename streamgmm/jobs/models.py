"""Models that jobs write: by which step one was made, whether that is finished, and what there is to say of it."""

from __future__ import annotations

from typing import Any

from streamgmm.em.convergence import StopReason
from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.estimators.saving import load
from streamgmm.exceptions import InputError, OutputExistsError
from streamgmm.storage.fingerprint import digest
from streamgmm.storage.outputs import output_exists
from streamgmm.storage.staging import clear_staging

#: Under which name a model's metadata say by which step it was made.
JOB = "streamgmm.job"
#: Under which name they say that it was cut short, where the model itself does not.
CUT_SHORT = "streamgmm.cut_short"


def fingerprint_job(*said: Any) -> str:
    """Return what tells a step, with its rows and settings, from others."""
    return digest([repr(one) for one in said])


def find_finished(output: str, job: str, if_exists: str) -> dict[str, Any] | None:
    """Return what there is to say where nothing is to be done; refuse to replace another model unasked."""
    if not output_exists(output, is_folder=False) or if_exists == "replace":
        return None
    if if_exists == "skip":
        return {"status": "there already"}
    try:
        model = load(output)
    except InputError:
        raise OutputExistsError(
            f"{output} exists, and is no model: choose another name, or allow it to be replaced (overwrite)"
        ) from None
    if model.metadata_.get(JOB) != job:
        raise OutputExistsError(
            f"{output} exists: choose another name, or allow it to be replaced (overwrite). (It was fitted to other "
            "rows, or with other settings.)"
        )
    if is_cut_short(model):
        # The best of a run whose time was up: it goes on.
        return None
    clear_staging(output)
    return {**describe_model(model), "status": "finished already"}


def is_cut_short(model: GaussianMixture) -> bool:
    """Whether a model is the best of a run whose time was up."""
    return model.stop_reason_ is StopReason.STOPPED or model.metadata_.get(CUT_SHORT) is True


def is_no_better(model: GaussianMixture, output: str, job: str) -> bool:
    """Whether a fit that was cut short is not as good as what an earlier one of the same job has left."""
    if model.stop_reason_ is not StopReason.STOPPED or not output_exists(output, is_folder=False):
        return False
    try:
        before = load(output)
    except InputError:
        return False
    same = before.metadata_.get(JOB) == job and is_cut_short(before)
    return bool(same and before.lower_bound_ >= model.lower_bound_)


def describe_model(model: GaussianMixture) -> dict[str, Any]:
    """Return what a step says of the model that it has made, or found."""
    training = model.training_summary_
    report = getattr(model, "fit_report_", None)
    return {
        "status": "done",
        "n_components": len(model.weights_),
        "n_features": model.n_features_in_,
        "lower_bound": float(model.lower_bound_),
        "gap": None if training is None else training.gap,
        "n_iter": model.n_iter_,
        "n_passes": None if training is None else training.n_passes,
        "n_rows": None if training is None else training.n_rows,
        "n_missing": model.n_missing_,
        "n_bytes": None if report is None else report.n_bytes,
        "converged": bool(model.converged_),
        "stop_reason": model.stop_reason_.value,
        "report": None if report is None else str(report),
    }
