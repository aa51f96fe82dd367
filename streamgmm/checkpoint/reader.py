"""Reads what is in a checkpoint's folder: what a fit can go on from, and a refusal of what is of another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from streamgmm._version import __version__
from streamgmm.checkpoint.file import read_file, warn
from streamgmm.checkpoint.names import is_checkpoint, is_of_first_format
from streamgmm.checkpoint.progress import Progress, Start
from streamgmm.exceptions import CheckpointError
from streamgmm.storage.folders import Folder


@dataclass(frozen=True)
class Found:
    """What a fit can go on from.

    Attributes
    ----------
    start : Start or None
    start_name : str
        The file of the start; "" where there is none.
    progress : Progress or None
    seed : int or None
        With which a first pass began that was not finished.
    parts : dict
        By a digest of the parameters of a pass that was not finished, the values of its parts by their number.
    n_part_files : int
        Files of such parts, those that are damaged or another fit's among them.
    """

    start: Start | None = None
    start_name: str = ""
    progress: Progress | None = None
    seed: int | None = None
    parts: dict[str, dict[int, Any]] = field(default_factory=dict)
    n_part_files: int = 0


def read_checkpoint(folder: Folder, data: dict[str, Any], settings: dict[str, Any], *, must: bool) -> Found:
    """Find a start that is whole and of this fit, and the latest progress from it.

    Parameters
    ----------
    folder : Folder
    data, settings : dict
        What tells these rows, and this fit, from others.
    must : bool
        Whether there must be something to go on from.

    Raises
    ------
    CheckpointError
        If what is there is another fit's that has not ended, or of an earlier format.
    """
    names = folder.names()
    if any(is_of_first_format(name) for name in names):
        raise CheckpointError(
            f"{folder.url} holds a checkpoint of streamgmm 0.1, whose format this version does not go on from: end "
            "that fit with 0.1, choose another folder, or begin anew with resume='never'"
        )
    names = [name for name in names if is_checkpoint(name)]
    files = {name: file for name in reversed(names) if (file := read_file(folder, name)) is not None}
    mine = {name: file for name, file in files.items() if not _differences(file, data, settings)}
    seed, parts = _parts_in(mine)
    latest = next((file for name, file in mine.items() if name.startswith("pass") and file["start"] in mine), None)
    first = next((name for name in mine if name.startswith("start")), None)
    start_name = first if latest is None else str(latest["start"])
    found = Found(
        None if start_name is None else mine[start_name]["values"],
        start_name or "",
        None if latest is None else latest["values"],
        seed,
        parts,
        sum(name.startswith("part") for name in names),
    )
    if start_name is not None:
        _warn_of_version(folder, mine[start_name]["streamgmm_version"])
        return found
    _check_replaceable(folder, files, mine, data, settings, must=must)
    if must and not parts:
        raise CheckpointError(
            f"{folder.url} has no checkpoint to go on from, and resume='must': use resume='auto' to begin a new fit "
            "there"
        )
    if any(not name.startswith("part") for name in mine):
        warn(f"{folder.url}: what the first pass gave is damaged or missing; the fit begins anew")
    return found


def _parts_in(mine: dict[str, dict[str, Any]]) -> tuple[int | None, dict[str, dict[int, Any]]]:
    seed: int | None = None
    parts: dict[str, dict[int, Any]] = {}
    for name, file in mine.items():
        if name.startswith("part"):
            of, seed, values = file["values"]
            parts.setdefault(of, {}).update(values)
    return seed, parts


def _warn_of_version(folder: Folder, version: str) -> None:
    if version != __version__:
        warn(
            f"{folder.url} was begun by streamgmm {version}, and this is {__version__}: the last digits may be "
            "neither's"
        )


def _check_replaceable(
    folder: Folder,
    files: dict[str, dict[str, Any]],
    mine: dict[str, dict[str, Any]],
    data: dict[str, Any],
    settings: dict[str, Any],
    *,
    must: bool,
) -> None:
    """Refuse a folder of another fit; one that has finished is overwritten."""
    passes = [file for name, file in files.items() if name.startswith("pass")]
    ended = False
    if passes:
        last: Progress = passes[0]["values"]
        # One that stopped at max_iter could go on, with its own rows.
        ended = last.finished or (last.stopped and passes[0]["data"] != data)
    others = [file for name, file in files.items() if name not in mine]
    if others and (must or not ended):
        which = "another fit" if ended else "another fit that has not ended"
        raise CheckpointError(
            f"{folder.url} holds a checkpoint of {which}; it differs in "
            f"{'; '.join(_differences(others[0], data, settings))}. Give what it was made with, choose another folder, "
            "or begin anew with resume='never'"
        )


def _differences(header: dict[str, Any], data: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Name what is not as it was."""
    found = []
    for kind, now in (("data", data), ("settings", settings)):
        then = header[kind]
        for name in sorted({*then, *now}):
            if then.get(name) != now.get(name):
                found.append(f"{name} ({then.get(name)} there, {now.get(name)} now)")
    return found
