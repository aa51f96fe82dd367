"""What stands around an array: xarray's names of dimensions, and masks. Known by their modules, not imported."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.sources.checking import fill_masked_array

_KINDS = ("DataArray", "Variable", "Dataset", "DataTree")


def unwrap(source: Any, *, what: str = "X", n_dimensions: int = 2) -> Any:
    """Return the array inside of an xarray DataArray, lazy where it is; other sources as they are.

    Raises
    ------
    RowsError
        If it has another number of dimensions, or is a whole Dataset.
    """
    classes = type(source).__mro__
    kind = next(
        (cls.__name__ for cls in classes if cls.__module__.startswith("xarray.") and cls.__name__ in _KINDS), None
    )
    if kind is None:
        return source
    if kind == "Dataset":
        names = ", ".join(f"{name} {tuple(variable.dims)}" for name, variable in source.data_vars.items())
        raise RowsError(
            f"{what} is an xarray Dataset of {names or 'nothing'}: give one DataArray with two dimensions, (rows, "
            "features), or variables as the features of stacked rows, dataset.to_dataframe()[[...]]"
        )
    if kind == "DataTree":
        raise RowsError(f"{what} is an xarray {kind}: give a DataArray with two dimensions, (rows, features)")
    if source.ndim != n_dimensions:
        expected = "two, (rows, features): X.stack(row=[...]).transpose('row', ...)" if n_dimensions == 2 else "one"
        raise RowsError(f"{what} is an xarray {kind} with {source.ndim} dimensions, {source.dims}; expected {expected}")
    return source.data


def fill_masked(source: Any) -> Any:
    """Return rows in memory with NaN where they are masked: arrays, and lists of arrays; other sources as they are."""
    if isinstance(source, (list, tuple)) and any(isinstance(row, np.ma.MaskedArray) for row in source):
        try:
            source = np.ma.stack([np.ma.asarray(row) for row in source])
        except ValueError as error:
            raise RowsError(f"X is a list of masked arrays that can't be stacked: {error}") from error
    return fill_masked_array(source) if isinstance(source, np.ma.MaskedArray) else source
