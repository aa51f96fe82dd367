"""What the steps of a job read and write: no step replaces what an earlier one has read or written, but as a job may.

A step may read what an earlier one has written; a fit, or a comparison, may put a new model in the place of one that an
earlier step has used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from streamgmm.exceptions import InputError
from streamgmm.jobs.declaration import CompareStep, FitStep, Job, PredictStep, Rows, SelectStep
from streamgmm.storage.places import InUse, Place, check_apart, find_place, find_places


def places_in_use(job: Job) -> tuple[InUse, ...]:
    """Return all places that a job reads and writes."""
    return tuple(one for step in job.steps for one in (*_read(job, step), *_written(job, step)))


def check_steps_apart(job: Job, *in_use: InUse) -> None:
    """Refuse a job one of whose steps would write over what another has read or written, or what else is in use.

    Raises
    ------
    InputError
        It names the step, and both places.
    """
    earlier: list[InUse] = [*in_use]
    for number, step in enumerate(job.steps):
        for written in _written(job, step):
            for place in written.places:
                try:
                    check_apart(place.name, *_forbidden(earlier, written, place))
                except InputError as error:
                    raise InputError(f"steps.{number} ({step.step}): {error}") from None
        earlier += [_of_step(number, one) for one in (*_read(job, step), *_written(job, step))]


def _of_step(number: int, one: InUse) -> InUse:
    return replace(one, what=f"{one.what} of steps.{number}")


def _forbidden(earlier: Sequence[InUse], written: InUse, place: Place) -> Iterator[InUse]:
    """Give what an output must be apart from."""
    for one in earlier:
        if written.what == "the model" and one.what.startswith("a model"):
            # What an earlier step has used makes room for its successor; nothing may lie in it or around it.
            yield replace(one, places=tuple(other for other in one.places if place.relation(other) != "is"))
        elif written.what == one.what.partition(" of ")[0] == "the checkpoint":
            # Several fits may have their states in one folder, one after the other.
            continue
        else:
            yield one


def _read(job: Job, step: Rows) -> Iterator[InUse]:
    yield InUse("the rows", find_places(job.rows_of(step)["source"]))
    if isinstance(step, CompareStep):
        yield InUse("a model", tuple(find_place(path) for path in step.models))
    elif not isinstance(step, (FitStep, SelectStep)) and (model := job.model_of(step)) is not None:
        yield InUse("a model", (find_place(model),))


def _written(job: Job, step: Rows) -> Iterator[InUse]:
    if isinstance(step, (FitStep, SelectStep)) and (model := job.model_of(step)) is not None:
        yield InUse("the model", (find_place(model),))
    if isinstance(step, FitStep) and step.checkpoint is not None:
        yield InUse("the checkpoint", (find_place(step.checkpoint),))
    if isinstance(step, CompareStep) and step.output is not None:
        yield InUse("the model", (find_place(step.output),))
    if isinstance(step, PredictStep):
        yield InUse("the scores", (find_place(step.output),))
