"""What each kind of step does, with what the estimators offer; each returns what there is to say of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np

from streamgmm.em.convergence import StopReason
from streamgmm.em.state import State
from streamgmm.estimators.gaussian_mixture import GaussianMixture
from streamgmm.estimators.saving import load, save
from streamgmm.estimators.search import search
from streamgmm.exceptions import InputError
from streamgmm.fitting.parameters import PARAMETERS
from streamgmm.jobs.context import Context
from streamgmm.jobs.declaration import CompareStep, FitStep, PredictStep, Rows, ScoreStep, SelectStep
from streamgmm.jobs.models import CUT_SHORT, JOB, describe_model, find_finished, fingerprint_job, is_no_better
from streamgmm.jobs.promises import stand_in
from streamgmm.jobs.sizes import read_sizes
from streamgmm.predict.outputs import Options, check_options, check_output_place
from streamgmm.predict.prepare import Written, prepare_predictions
from streamgmm.predict.scores import check_outlier_options, check_scores
from streamgmm.predict.write import write_predictions
from streamgmm.storage.outputs import check_output, copy_file, output_exists
from streamgmm.storage.places import InUse, check_apart, find_place, find_places
from streamgmm.storage.staging import hold_output

#: What a dry run says of a step whose model would be fitted to rows that are not there yet.
_UNKNOWN = "would follow: a step before fits its model"


@singledispatch
def check_step(step: Any, context: Context) -> None:
    """Refuse before any work what can't be read or written.

    Raises
    ------
    InputError
        If an output is, or lies in, what is read.
    OutputExistsError, OutputError
        If an output can't be written.
    """
    raise TypeError(f"there is no step {type(step).__name__}")


@singledispatch
def perform(step: Any, context: Context) -> dict[str, Any]:
    """Do what a step says, and return what there is to say of it."""
    raise TypeError(f"there is no step {type(step).__name__}")


def rehearse(step: Any, context: Context) -> dict[str, Any]:
    """Check a step against what is there, and against what the steps before would leave."""
    output: str | None = getattr(step, "output", None)
    unseen = context.promises.has_rows(context.source(step))
    if unseen:
        if isinstance(step, (FitStep, SelectStep)) and context.job.model_of(step) is not None:
            context.promises.promise_model(_model_of(step, context), None)
        found = {"step": step.step, "status": "would follow: a step before writes its rows"}
    else:
        found = perform(step, context)
    if isinstance(step, PredictStep) and output is not None:
        context.promises.promise_output(output)
    return found


@check_step.register
def _(step: FitStep, context: Context) -> None:
    output = _model_of(step, context)
    rows, folder = find_places(context.source(step)), find_places(step.checkpoint)
    check_apart(output, InUse("the rows", rows), InUse("the checkpoint", folder))
    check_output(output, overwrite=True, is_folder=False)


@perform.register
def _(step: FitStep, context: Context) -> dict[str, Any]:
    output = _model_of(step, context)
    names = set(FitStep.model_fields) & set(PARAMETERS)
    given: dict[str, Any] = {name: getattr(step, name) for name in names if getattr(step, name) is not None}
    if context.missing(step) is not None:
        given["missing"] = context.missing(step)
    model = GaussianMixture(
        step.components,
        **given,
        memory_limit=context.memory_limit,
        verbose=1 if context.show_progress else 0,
        verbose_interval=1,
        callback=_following(context),
    )
    source, weight, choice = context.source(step), context.weight(step), context.choice(step)
    rows = model._open_to_fit(source, weight, **choice)
    settings = {name: given[name] for name in sorted(given) if PARAMETERS[name].saved}
    job = fingerprint_job("fit", step.components, settings, rows.fingerprint())
    done = find_finished(output, job, step.if_exists)
    if done is not None:
        return {"step": "fit", "model": output, **done}
    if context.dry_run:
        plan = model.plan(source, weight, **choice, probe=False)
        plan.check()
        context.promises.promise_model(output, stand_in(step.components, rows))
        return {
            "step": "fit",
            "model": output,
            "status": "would be fitted",
            "n_rows": rows.n_rows,
            "plan": plan.as_dict(),
        }
    with hold_output(output):
        model.fit(source, sample_weight=weight, **choice)
        if is_no_better(model, output, job):
            context.log.warning(f"the time was up before the fit was better than {output}, which is left as it is")
        else:
            save(model, output, overwrite=True, name=step.name, metadata={JOB: job})
    if model.n_missing_:
        context.log.warning(f"left out {model.n_missing_} rows with missing values", n_missing=model.n_missing_)
    return {"step": "fit", "model": output, **describe_model(model)}


@check_step.register
def _(step: SelectStep, context: Context) -> None:
    read_sizes(step.components)
    output = context.job.model_of(step)
    if output is not None:
        check_apart(output, InUse("the rows", find_places(context.source(step))))
        check_output(output, overwrite=True, is_folder=False)


@perform.register
def _(step: SelectStep, context: Context) -> dict[str, Any]:
    output, sizes = context.job.model_of(step), read_sizes(step.components)
    families = [step.covariance_type] if isinstance(step.covariance_type, str) else list(step.covariance_type)
    given = {"tol": step.tol, "missing": context.missing(step), "memory_limit": context.memory_limit}
    parameters: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    parameters |= {"reg_covar": step.reg_covar, "random_state": step.random_state}
    source, weight, choice = context.source(step), context.weight(step), context.choice(step)
    opener = GaussianMixture(sizes[0], **parameters)
    rows = opener._open_to_fit(source, weight, **choice)
    said = {name: parameters[name] for name in sorted(parameters) if name != "memory_limit"}
    job = fingerprint_job("select", [sizes, families, step.criterion, step.held_out], said, rows.fingerprint())
    if output is not None:
        done = find_finished(output, job, step.if_exists)
        if done is not None:
            return {"step": "select", "model": output, **done}
    if context.dry_run:
        if output is not None:
            context.promises.promise_model(output, stand_in(sizes[0], rows))
        return {"step": "select", "model": output, "status": "would be selected", "n_rows": rows.n_rows}
    with hold_output(output):
        found = search(
            source,
            sizes,
            covariance_type=families,
            criterion=step.criterion,
            held_out=step.held_out,
            sample_weight=weight,
            verbose=1 if context.show_progress else 0,
            stop=context.time_is_up,
            **choice,
            **parameters,
        )
        if output is not None:
            # One that was cut short has compared what was not fitted to its end: it is not done.
            cut_short = {CUT_SHORT: True} if context.was_stopped else {}
            save(found.best, output, overwrite=True, metadata={JOB: job, **cut_short})
    stopped = {"stop_reason": StopReason.STOPPED.value, "converged": False} if context.was_stopped else {}
    return {
        "step": "select",
        "model": output,
        **describe_model(found.best),
        **stopped,
        "criterion": step.criterion,
        "best": found.best_index,
        "passes": found.best.fit_report_.n_passes,
        "table": found.table(),
        "text": str(found),
    }


@check_step.register
def _(step: PredictStep, context: Context) -> None:
    model = _model_of(step, context)
    check_apart(
        step.output, InUse("the rows", find_places(context.source(step))), InUse("the model", find_places(model))
    )
    check_output_place(step.output, overwrite=True)
    options = Options(step.compression, step.row_group_rows, tuple(step.partition_by), step.prefix)
    check_options(step.output, options, step.keep)
    check_outlier_options(check_scores(step.write), step.outlier_rate, step.outlier_threshold)


@perform.register
def _(step: PredictStep, context: Context) -> dict[str, Any]:
    model = _load(_model_of(step, context), step, context)
    if model is None:
        return {"step": "predict", "output": step.output, "status": _UNKNOWN}
    names = (
        "write", "keep", "outlier_rate", "outlier_threshold", "float_type", "compression", "row_group_rows",
        "partition_by", "prefix", "if_exists",
    )  # fmt: skip
    given = {name: getattr(step, name) for name in names}
    source, choice = context.source(step), context.choice(step)
    if context.dry_run:
        prepared = prepare_predictions(model, source, step.output, **choice, **given)
        if isinstance(prepared, Written):
            return {"step": "predict", "output": step.output, "status": "finished already"}
        return {"step": "predict", "output": step.output, "status": "would be scored", "n_rows": prepared.rows.n_rows}
    found = write_predictions(model, source, step.output, **choice, **given)
    return {
        "step": "predict",
        "output": step.output,
        "status": "finished already" if found.skipped else "done",
        "n_rows": found.n_rows,
        "n_missing": found.n_missing,
        "n_outliers": found.n_outliers,
        "n_parts": found.n_parts,
        "n_resumed": found.n_resumed,
    }


@check_step.register
def _(step: ScoreStep, context: Context) -> None:
    _model_of(step, context)


@perform.register
def _(step: ScoreStep, context: Context) -> dict[str, Any]:
    model = _load(_model_of(step, context), step, context)
    if model is None:
        return {"step": "score", "status": _UNKNOWN}
    source, choice = context.source(step), context.choice(step)
    if context.dry_run:
        rows = model._open(source, **choice)
        return {"step": "score", "status": "would be scored", "n_rows": rows.n_rows}
    found = model._log_likelihood(source, context.weight(step), **choice)
    n_parameters = model._parameters().n_parameters
    return {
        "step": "score",
        "status": "done",
        "mean_log_likelihood": found.mean,
        "log_likelihood": found.total,
        "sum_weight": found.sum_weight,
        "bic": -2.0 * found.total + n_parameters * float(np.log(found.sum_weight)),
        "aic": -2.0 * found.total + 2.0 * n_parameters,
    }


@check_step.register
def _(step: CompareStep, context: Context) -> None:
    if step.output is not None:
        # The present model may be the output: it then makes room for one that is better.
        others = tuple(find_place(path) for path in step.models[1:])
        check_apart(
            step.output, InUse("the rows", find_places(context.source(step))), InUse("a model to compare", others)
        )
        check_output(step.output, overwrite=step.if_exists != "fail", is_folder=False)


@perform.register
def _(step: CompareStep, context: Context) -> dict[str, Any]:
    loaded = [_load(path, step, context) for path in step.models]
    models = [model for model in loaded if model is not None]
    source, choice = context.source(step), context.choice(step)
    if context.dry_run:
        if step.output is not None:
            context.promises.promise_model(step.output, loaded[0])
        if len(models) < len(loaded):
            return {"step": "compare", "status": _UNKNOWN}
        rows = models[0]._open(source, **choice)
        for model in models[1:]:
            model._open(source, **choice)
        _check_alike(models)
        return {"step": "compare", "status": "would be compared", "n_rows": rows.n_rows}
    from streamgmm.predict.comparison import compare_densities

    rows = models[0]._rows(source, sample_weight=context.weight(step), reset=False, **choice)
    for model in models[1:]:
        model._open(source, **choice)
    _check_alike(models)
    found = compare_densities(rows, [model._parameters() for model in models], missing=models[0].missing)
    best = 0
    for number in range(1, len(models)):
        sure = found.gains[number] - 2.0 * found.standard_errors[number] > step.min_gain
        if sure and found.means[number] > found.means[best]:
            best = number
    if step.output is not None and not (step.if_exists == "skip" and output_exists(step.output, is_folder=False)):
        with hold_output(step.output):
            copy_file(step.models[best], step.output)
    return {
        "step": "compare",
        "status": "done",
        "best": best,
        "best_model": step.models[best],
        "output": step.output,
        "mean_log_likelihoods": found.means,
        "gains": found.gains,
        "standard_errors": found.standard_errors,
        "sum_weight": found.sum_weight,
    }


def _check_alike(models: list[GaussianMixture]) -> None:
    if any(model._fitted_schema().columns != models[0]._fitted_schema().columns for model in models):
        raise InputError("compare: the models were fitted to other features, or in another order")


def _model_of(step: Any, context: Context) -> str:
    found = context.job.model_of(step)
    if found is None:
        raise InputError(f"{step.step} has no model")
    return found


def _load(path: str, step: Rows, context: Context) -> GaussianMixture | None:
    """Return a model; in a dry run what stands for one that would be there, None where nothing is known of it."""
    model = context.promises.model(path) if context.promises.has_model(path) else load(path)
    if model is None:
        return None
    model.memory_limit = context.memory_limit
    model.missing = context.missing(step) or model.missing
    return model


def _following(context: Context) -> Callable[[State], bool]:
    def after_pass(state: State) -> bool:
        context.log.info(
            "pass",
            n_iter=state.n_iter,
            lower_bound=float(state.lower_bounds[-1]),
            gap=None if not np.isfinite(state.gap) else float(state.gap),
        )
        return context.time_is_up()

    return after_pass
