"""Data on a grid, as xarray has it: one dimension holds the features, and the points of the others are the rows.

Chunks of Dask stay as they are: each becomes rows by itself, so that rows come chunk by chunk, and what is predicted
goes back to where its rows were. Known by its modules, xarray is not imported unless there is something of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.sources.schema import FeatureSchema, check_names, in_order_of

if TYPE_CHECKING:
    import xarray as xr

_SHOWN = 20


@dataclass(frozen=True, eq=False)
class Grid:
    """Rows that are points of a grid.

    Attributes
    ----------
    rows : ndarray or dask.array.Array of shape (n_rows, n_features)
    sample_weight : ndarray or dask.array.Array of shape (n_rows,), or None
    schema : FeatureSchema
        Names of the features: the variables, or the labels of their dimension; and that dimension.
    points : xarray.DataArray
        One feature of the grid: its dimensions, coordinates and chunks.
    dims : tuple of hashable
        The dimensions as they were, that of the features among them.
    """

    rows: Any
    sample_weight: Any
    schema: FeatureSchema
    points: xr.DataArray
    dims: tuple[Hashable, ...]

    def put(
        self, found: Any, name: str, *trailing: tuple[Hashable, Sequence[Hashable] | None], **attrs: str
    ) -> xr.DataArray:
        """Put what was computed for each row where the row was.

        Parameters
        ----------
        found : ndarray or dask.array.Array of shape (n_rows, ...)
        name : str
            Of the array.
        *trailing : tuple of (hashable, sequence or None)
            Name and labels of each further dimension of `found`.
        **attrs
            Attributes: long_name, units.
        """
        import xarray as xr

        shape = (*self.points.shape, *found.shape[1:])
        if self.points.chunks is None:
            data = found.reshape(shape)
        else:
            from dask.array import reshape_blockwise

            chunks = (*self.points.chunks, *found.chunks[1:])
            data = found if found.shape == shape else reshape_blockwise(found, shape, chunks=chunks)
        dims = (*self.points.dims, *(dim for dim, _ in trailing))
        coords: dict[Any, Any] = dict(self.points.coords)
        coords |= {dim: list(labels) for dim, labels in trailing if labels is not None}
        return xr.DataArray(data, coords=coords, dims=dims, name=name, attrs=attrs)


def find_grid(
    source: Any,
    *,
    feature_dim: Hashable | None = None,
    sample_weight: Any = None,
    columns: Sequence[Hashable] | None = None,
    fitted: FeatureSchema | None = None,
) -> Grid | None:
    """Return the rows of a DataArray or a Dataset of xarray; None of anything else. What is a grid already stays.

    Parameters
    ----------
    source : object
    feature_dim : hashable, optional
        The dimension of a DataArray that holds the features; that of the fit, or the last of two, if not given.
    sample_weight : object, optional
        A DataArray on some dimensions of the grid, or the name of a variable.
    columns : sequence of hashable, optional
        Features to take: variables, or labels of their dimension.
    fitted : FeatureSchema, optional
        What a model was fitted to.

    Raises
    ------
    RowsError
        If it is no grid of features; the message says why.
    """
    if isinstance(source, Grid):
        return source
    kind = _kind_of(source)
    if kind is None:
        return None
    weight_name = None
    if kind == "Dataset":
        if feature_dim is not None:
            raise RowsError("the features of a Dataset are its variables: feature_dim is for a DataArray")
        if isinstance(sample_weight, str):
            weight_name, sample_weight = sample_weight, _variable(source, sample_weight, "sample_weight")
        fitted_weight = None if fitted is None else fitted.weight
        array, dim = _stacked(source, columns, fitted, {weight_name, fitted_weight} - {None})
    else:
        if isinstance(sample_weight, str):
            raise RowsError(
                f"sample_weight={sample_weight!r} names a variable, and X is a DataArray: give a Dataset, or the "
                "weights as a DataArray"
            )
        array, dim = _chosen(source, feature_dim, columns, fitted)
    dims = array.dims
    array = _lazy_or_in_memory(array).transpose(..., dim)
    labels = _labels_of(array, dim)
    twice = [label for label, times in Counter(labels or ()).items() if times > 1]
    if twice:
        raise RowsError(f"X has {_shown(twice)} more than once along {dim!r}: each feature needs a label of its own")
    points = array.isel({dim: 0}, drop=True)
    if not points.ndim:
        raise RowsError(f"X has one dimension, {dim!r}: there are features, and no rows")
    rows = _as_rows(array.data)
    weight = None if sample_weight is None else _weights_of(sample_weight, points, rows)
    return Grid(rows, weight, FeatureSchema(labels, weight_name, dimension=dim), points, dims)


def _kind_of(source: Any) -> str | None:
    for cls in type(source).__mro__:
        if cls.__module__.startswith("xarray.") and cls.__name__ in ("DataArray", "Dataset"):
            return cls.__name__
    return None


def _chosen(
    array: Any, feature_dim: Hashable | None, columns: Sequence[Hashable] | None, fitted: FeatureSchema | None
) -> tuple[Any, Hashable]:
    """Return a DataArray with the features that are asked for, and their dimension."""
    if feature_dim is None:
        feature_dim = _guess_dimension(array, fitted or FeatureSchema())
    if feature_dim not in array.dims:
        what = "which of them holds the features? Say so when fitting" if feature_dim is None else "there is none such"
        raise RowsError(
            f"X is an xarray DataArray with the dimensions {tuple(array.dims)}: {what}, feature_dim="
            f"{feature_dim if feature_dim is not None else '...'!r}"
        )
    wanted = _wanted(columns, fitted)
    if wanted is not None and feature_dim in array.coords:
        labels = list(_labels_of(array, feature_dim) or ())
        if list(wanted) != labels:
            lacking = [label for label in wanted if label not in labels]
            if lacking:
                raise RowsError(f"X lacks {_shown(lacking)} along {feature_dim!r}, where it has {_shown(labels)}")
            array = array.isel({feature_dim: [labels.index(label) for label in wanted]})
    elif columns is not None:
        raise RowsError(f"columns names features, and {feature_dim!r} of X has no labels")
    return array, feature_dim


def _wanted(columns: Sequence[Hashable] | None, fitted: FeatureSchema | None) -> tuple[Hashable, ...] | None:
    """Return the features to take: in the order of the fit, whatever that of `columns`."""
    of_fit = None if fitted is None else fitted.columns
    if columns is None:
        return of_fit
    names = check_names(columns)
    return names if of_fit is None else in_order_of(of_fit, names)


def _labels_of(array: Any, dim: Hashable) -> tuple[Hashable, ...] | None:
    """Return the labels along a dimension; those that are times as texts."""
    if dim not in array.coords:
        return None
    values = array.coords[dim].values
    return tuple(map(str, values)) if values.dtype.kind in "mM" else tuple(values.tolist())


def _guess_dimension(array: Any, fitted: FeatureSchema) -> Hashable | None:
    """Return the dimension of the fit, that with its labels, or the last of two; None where there is none of these."""
    if fitted.dimension in array.dims:
        return fitted.dimension
    names = set(fitted.columns or ())
    labelled = [
        dim for dim in array.dims if names and dim in array.coords and names <= set(_labels_of(array, dim) or ())
    ]
    if len(labelled) == 1:
        found: Hashable = labelled[0]
        return found
    return array.dims[-1] if array.ndim == 2 else None


def _stacked(
    dataset: Any, columns: Sequence[Hashable] | None, fitted: FeatureSchema | None, without: set[Any]
) -> tuple[Any, Hashable]:
    """Return the variables of a Dataset as one DataArray, and the dimension that they are along."""
    wanted = _wanted(columns, fitted)
    names = [name for name in dataset.data_vars if name not in without] if wanted is None else list(wanted)
    if not names:
        raise RowsError("X is a Dataset without variables that could be features")
    for name in names:
        variable = _variable(dataset, name, "X")
        if variable.dtype.kind not in "fiub":
            raise RowsError(
                f"the variable {name!r} of X has dtype {variable.dtype}, which is no number: name the features, "
                "columns=[...]"
            )
    everything = max((dataset[name].dims for name in names), key=len)
    for name in names:
        if not set(dataset[name].dims) <= set(everything):
            shown = ", ".join(f"{one!r} {tuple(dataset[one].dims)}" for one in names[:_SHOWN])
            raise RowsError(
                f"the variables of X are not on one grid: {shown}; name those that are features, columns=[...]"
            )
    dim = "variable" if "variable" not in dataset.dims else "feature"
    # Variables in a store are read where they are stacked, unless they are of Dask.
    lazy = dataset[names].assign({name: _lazy_or_in_memory(dataset[name]) for name in names})
    return lazy.to_dataarray(dim), dim


def _variable(dataset: Any, name: Hashable, what: str) -> Any:
    if name not in dataset.variables:
        raise RowsError(f"{what} lacks the variable {name!r}; the Dataset has {_shown(list(dataset.data_vars))}")
    return dataset[name]


def _lazy_or_in_memory(array: Any) -> Any:
    """Return an array whose values are there, or of Dask: what a file would give when asked is asked chunk by chunk."""
    if array.chunks is not None or isinstance(array.variable._data, np.ndarray):
        return array
    # As the store has them.
    return array.chunk(array.encoding.get("preferred_chunks", "auto"))


def _as_rows(data: Any) -> Any:
    """Make rows of an array with the features last: by chunk where it is of Dask."""
    n_features = data.shape[-1]
    if isinstance(data, np.ndarray):
        return data.reshape(-1, n_features)
    data = data.rechunk({data.ndim - 1: -1})
    if data.ndim == 2:
        return data
    from dask.array import reshape_blockwise

    return reshape_blockwise(data, (int(np.prod(data.shape[:-1])), n_features))


def _weights_of(weight: Any, points: Any, rows: Any) -> Any:
    """Return weights in the order of the rows."""
    if _kind_of(weight) is None:
        if points.ndim > 1 and not isinstance(rows, np.ndarray):
            raise RowsError(
                "sample_weight has no dimensions, and the rows of X are in the order of its chunks: give a DataArray"
            )
        return weight
    if points.ndim == weight.ndim == 1 and points.dims != weight.dims and points.shape == weight.shape:
        # One list of rows, and one of weights.
        weight = weight.rename(dict(zip(weight.dims, points.dims, strict=True)))
    if not set(weight.dims) <= set(points.dims):
        raise RowsError(f"sample_weight has the dimensions {tuple(weight.dims)}; expected some of {tuple(points.dims)}")
    for dim in weight.dims:
        if dim not in weight.coords or dim not in points.coords:
            continue
        # By their labels, as xarray puts arrays together; where labels differ it would make others.
        lacking = ~np.isin(points[dim].values, weight[dim].values)
        if lacking.any():
            raise RowsError(
                f"sample_weight lacks {lacking.sum()} of the {lacking.size} points of X along {dim!r}, first "
                f"{points[dim].values[lacking][0]}: it needs the same labels there"
            )
        weight = weight.sel({dim: points[dim].values})
    shaped = weight.broadcast_like(points).transpose(*points.dims)
    if isinstance(rows, np.ndarray):
        return np.asarray(shaped.data).reshape(-1)
    data = shaped.chunk(dict(zip(points.dims, points.chunks, strict=True))).data
    if data.ndim == 1:
        return data
    from dask.array import reshape_blockwise

    return reshape_blockwise(data, (int(np.prod(data.shape)),))


def _shown(names: Sequence[Hashable]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
