"""Which array of a Zarr group holds the rows: the one with two dimensions, where there is one that is data."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from streamgmm.exceptions import RowsError
from streamgmm.sources.zarr_packing import dimensions

if TYPE_CHECKING:
    import zarr

#: Attributes by which a variable of a CF store names those that describe it.
_DESCRIBING = ("bounds", "climatology", "coordinates")


def find_matrix(group: zarr.Group, description: str, place: Callable[[str], str]) -> tuple[str, zarr.Array[Any]]:
    """Return the one array of a group, or of a group inside of it, that has two dimensions, and its name there.

    Parameters
    ----------
    group : zarr.Group
    description : str
        How errors name the group.
    place : callable
        How they name an array in it, by its name there.

    Raises
    ------
    RowsError
        If there is none, if there are several, or if it only describes others, as the bounds of a climate cube's times
        do. The message lists the arrays.
    """
    import zarr

    arrays = {name: member for name, member in group.members(max_depth=None) if isinstance(member, zarr.Array)}
    matrices = {name: array for name, array in arrays.items() if array.ndim == 2}
    describing = _describing(arrays)
    data = [name for name in matrices if name not in describing]
    found = ", ".join(f"{place(name)} {_shape(array)}" for name, array in sorted(arrays.items()))
    advice = f"give the array to use ({found or 'it has none'})"
    if len(data) > 1 or not matrices:
        raise RowsError(f"{description} is a Zarr group with {len(data)} two-dimensional arrays; {advice}")
    (name,) = data or list(matrices)[:1]
    cubes = [one for one, array in arrays.items() if array.ndim > 2 and one not in describing and dimensions(array)]
    if not data:
        raise RowsError(
            f"{description} is a Zarr group whose only two-dimensional arrays ({', '.join(matrices)}) describe others, "
            f"as their bounds or coordinates; {advice}"
        )
    if cubes and dimensions(matrices[name]):
        raise RowsError(
            f"{description} is a Zarr group of variables with {arrays[cubes[0]].ndim} dimensions, and {name}, which "
            f"has two, may be the bounds of one of them; {advice}"
        )
    return name, matrices[name]


def _describing(arrays: dict[str, zarr.Array[Any]]) -> set[str]:
    """Return the names of arrays that others name as their bounds or coordinates."""
    found: set[str] = set()
    for name, array in arrays.items():
        folder = name.rpartition("/")[0]
        for attribute in _DESCRIBING:
            value = array.attrs.get(attribute)
            if isinstance(value, str):
                found.update(f"{folder}/{one}".lstrip("/") for one in value.split())
    return found


def _shape(array: zarr.Array[Any]) -> str:
    names = dimensions(array)
    if names is None:
        return f"{array.shape}"
    return f"({', '.join(f'{name} {size}' for name, size in zip(names, array.shape, strict=False))})"
