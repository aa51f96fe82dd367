"""A job file: TOML with variables of the environment in it, checked as a whole before anything is done."""

from __future__ import annotations

import datetime
import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from streamgmm.exceptions import InputError
from streamgmm.jobs.declaration import STEPS, Job

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>[^}]*)\})")
_NAME = re.compile(r"(?P<name>[A-Za-z_]\w*)(?::-(?P<default>.*))?", re.DOTALL)
#: Mistakes that an error names, at most.
_SHOWN = 10
#: Bytes of a job file, at most: it names things, and holds none.
_LARGEST = 1_000_000


def read_job(path: str, changes: Iterable[str] = (), environment: Mapping[str, str] = os.environ) -> Job:
    """Read a job file and check all of it.

    Parameters
    ----------
    path : str
    changes : iterable of str
        ``key=value`` each, as ``limits.max_seconds=60`` or ``steps.0.components=8``: values as TOML writes them, or
        texts without quotes.
    environment : mapping of str to str
        What ``${NAME}`` and ``${NAME:-default}`` in texts stand for; ``$$`` is a dollar sign.

    Raises
    ------
    InputError
        With every mistake: keys that are not known, with the nearest that is, values of other types, variables that
        are not set.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    if len(data) > _LARGEST:
        raise InputError(f"{path} has more than {_LARGEST:,} bytes, which no job file has")
    try:
        said = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8, and so no TOML") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no TOML: {str(error) or 'nested too deeply'}") from error
    for change in changes:
        _change(said, change)
    return check_job(said, path, environment)


def check_job(said: dict[str, Any], path: str = "the job", environment: Mapping[str, str] = os.environ) -> Job:
    """Make a job of what was said, or name every mistake in it."""
    unset: list[str] = []
    try:
        expanded = _expand(said, environment, unset, "")
    except RecursionError:
        raise InputError(f"{path} is nested too deeply") from None
    mistakes = [*unset]
    job = None
    try:
        job = Job.model_validate(expanded)
    except ValidationError as error:
        mistakes += [_describe(one, expanded) for one in error.errors(include_url=False, include_context=True)]
    except RecursionError:
        raise InputError(f"{path} is nested too deeply") from None
    if job is not None:
        mistakes += _lacking(job)
    if mistakes:
        known = list(dict.fromkeys(mistakes))
        more = f"; and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        n = "1 mistake" if len(known) == 1 else f"{len(known)} mistakes"
        raise InputError(f"{path} has {n}: {'; '.join(known[:_SHOWN])}{more}")
    assert job is not None
    return job


def _lacking(job: Job) -> list[str]:
    """Name what some step needs and neither it nor the job says."""
    found = []
    for number, step in enumerate(job.steps):
        place = f"steps.{number} ({step.step})"
        if not job.rows_of(step)["source"]:
            found.append(f"{place} has no source, nor has the job")
        needs_model = step.step in ("fit", "predict", "score")
        if needs_model and job.model_of(step) is None:
            found.append(f"{place} has no model, nor has the job")
    return found


def _change(said: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise InputError(f"--set {change!r} is no key=value, such as limits.max_seconds=60")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text
    if isinstance(value, (datetime.date, datetime.time)):
        # A text that TOML takes for a day or a time: jobs have none.
        value = text
    at: Any = said
    for place, name in enumerate(names):
        last = place == len(names) - 1
        if isinstance(at, list):
            if not name.isdecimal() or int(name) >= len(at):
                raise InputError(
                    f"--set {key}: {'.'.join(names[:place])} has the entries 0 to {len(at) - 1}, no {name!r}"
                )
            index: Any = int(name)
        elif isinstance(at, dict):
            index = name
            if not last:
                at.setdefault(name, {})
        else:
            raise InputError(f"--set {key}: {'.'.join(names[:place])} is {at!r}, which has no parts")
        if last:
            at[index] = value
        else:
            at = at[index]


def _expand(value: Any, environment: Mapping[str, str], unset: list[str], place: str) -> Any:
    """Put in what variables stand for, in all texts."""
    if isinstance(value, dict):
        return {k: _expand(one, environment, unset, f"{place}.{k}".lstrip(".")) for k, one in value.items()}
    if isinstance(value, list):
        return [_expand(one, environment, unset, f"{place}.{n}") for n, one in enumerate(value)]
    if not isinstance(value, str):
        return value
    if "\0" in value:
        unset.append(f"{place} has a NUL in it, {_shown(value)}")

    def found(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        named = _NAME.fullmatch(match["name"])
        if named is None:
            unset.append(f"{place} has {match[0]!r}, which is no ${{NAME}}")
            return ""
        text: str | None = environment.get(named["name"], named["default"])
        if text is None:
            unset.append(f"{place} needs the variable {named['name']}, which is not set")
        return text or ""

    return _VARIABLE.sub(found, value)


def _describe(error: Any, said: Any) -> str:
    """Say what is wrong at a place, and what would be right."""
    # The kind of a step is a part of pydantic's place, and not of the file's.
    names: list[str] = []
    model: Any = Job
    for part in error["loc"]:
        if part in STEPS and names[:1] == ["steps"] and len(names) == 2:
            model = STEPS[part]
            continue
        if (
            len(names) >= 1
            and not isinstance(part, int)
            and not _is_key(model, part)
            and error["type"] != "extra_forbidden"
        ):
            continue  # a member of a union of types
        names.append(str(part))
    place = ".".join(names) or "it"
    kind, found = error["type"], error.get("input")
    if kind == "extra_forbidden":
        known = _keys_at(error["loc"][:-1])
        near = difflib.get_close_matches(names[-1], known, n=1, cutoff=0.0)
        return f"{place} is not known: did you mean {near[0]!r}?" if near else f"{place} is not known"
    if kind == "missing":
        return f"{place} is missing"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tag = found.get("step") if isinstance(found, dict) else None
        near = difflib.get_close_matches(str(tag), STEPS, n=1, cutoff=0.0) if tag is not None else []
        advice = f": did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(STEPS)}"
        return f"{place}.step is {tag!r}{advice}" if tag is not None else f"{place}.step is missing{advice}"
    return f"{place} is {_shown(found)}: {_lower(error['msg'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _is_key(model: Any, name: str) -> bool:
    known: list[Any] = [model, Job, *STEPS.values(), *_parts()]
    return any(name in getattr(one, "model_fields", {}) for one in known)


def _parts() -> list[type[BaseModel]]:
    found = []
    for one in Job.model_fields.values():
        kind: Any = one.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.append(kind)
    return found


def _keys_at(place: tuple[Any, ...]) -> list[str]:
    """Return the keys that are known at a place."""
    model: Any = Job
    for part in place:
        if part in STEPS and model is not Job:
            model = STEPS[part]
        elif isinstance(part, str) and isinstance(model, type) and part in getattr(model, "model_fields", {}):
            annotation: Any = getattr(model, "model_fields", {})[part].annotation
            model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else list
    fields: dict[str, Any] = getattr(model, "model_fields", {})
    return list(fields)
