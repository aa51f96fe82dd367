"""From whatever a user calls data to `Rows`: the one place that looks at its kind."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.sources.base import RandomAccessRows, Rows, as_sample_weight
from streamgmm.sources.lakes import is_lake, open_lake
from streamgmm.sources.paths import detect_format, normalize_path
from streamgmm.sources.schema import ColumnRequest, FeatureSchema
from streamgmm.sources.unwrapping import fill_masked, unwrap
from streamgmm.storage.requests import ReadPolicy

_KINDS = (
    "a NumPy array, a pandas or polars DataFrame, a pyarrow Table or dataset, a zarr.Array or Group, a Dask array or "
    "DataFrame, an xarray DataArray, the path of a .npy file, a Zarr store or Parquet files, a list of Parquet files, "
    "or a table of Delta Lake or Iceberg"
)
_STORED = ("lake", "dask.array", "dask.dataframe", "zarr", "zarr group", "pyarrow.dataset")


def is_stored(source: Any) -> bool:
    """Tell whether a source's rows are read lazily: Dask collections, Zarr arrays, paths, datasets of files."""
    return isinstance(source, (str, os.PathLike)) or is_paths(source) or detect_kind(source) in _STORED


def is_table(source: Any) -> bool:
    """Tell whether a source is a table in memory, of any library."""
    return detect_kind(source) in ("pandas", "pyarrow", "arrow", "lazy table")


def is_paths(source: Any) -> bool:
    """Tell whether a source is a list of paths."""
    return (
        isinstance(source, (list, tuple))
        and len(source) > 0
        and all(isinstance(path, (str, os.PathLike)) for path in source)
    )


def detect_kind(source: Any) -> str:
    """Name the kind of an object without importing what defines it: its library, or "other"."""
    if is_lake(source):
        return "lake"
    for cls in type(source).__mro__:
        module, name = cls.__module__, cls.__name__
        if name == "Array" and module.startswith("dask.array"):
            return "dask.array"
        if name in ("DataFrame", "FrameBase") and module.startswith(("dask.dataframe", "dask_expr")):
            return "dask.dataframe"
        if name == "Array" and module.startswith("zarr"):
            return "zarr"
        if name == "Group" and module.startswith("zarr"):
            return "zarr group"
        if name == "DataFrame" and module.startswith("pandas"):
            return "pandas"
        if name == "Table" and module.startswith("pyarrow"):
            return "pyarrow"
        if name == "Dataset" and module.startswith("pyarrow"):
            return "pyarrow.dataset"
        if name == "LazyFrame":
            return "lazy table"
    return "arrow" if _gives_arrow(source) else "other"


def _gives_arrow(source: Any) -> bool:
    """Whether an object gives a table by Arrow's PyCapsule interface or that of dataframes; arrays don't."""
    if len(getattr(source, "shape", (0, 0))) != 2 or type(source).__module__.startswith("xarray"):
        return False
    if hasattr(source, "__dataframe__"):
        return True
    gives = hasattr(source, "__arrow_c_stream__") or hasattr(source, "__arrow_c_array__")
    return gives and (hasattr(source, "columns") or hasattr(source, "schema"))


def open_rows(
    source: Any,
    *,
    sample_weight: Any = None,
    columns: Sequence[Hashable] | None = None,
    keep: Sequence[Hashable] | str = (),
    where: str | None = None,
    fitted: FeatureSchema | None = None,
    memory_limit: int | None = None,
) -> Rows:
    """Make `Rows` of data of any supported kind.

    Parameters
    ----------
    source : array, table, Dask collection, path, list of paths, or dataset
        See the package's README for the kinds.
    sample_weight : array of shape (n_rows,), str, or None
        Weights of the rows, or the name of the column that holds them.
    columns : sequence of hashable, optional
        The features of a table.
    keep : sequence of hashable, or "all"
        Columns that go with the rows as they are stored: of a table, or arrays of the same group.
    where : str, optional
        Which rows of Parquet files are meant; see `streamgmm.sources.where`.
    fitted : FeatureSchema, optional
        What a model was fitted to: a table's features are taken by its names where `columns` is not given. It is
        nothing to what has no named columns.
    memory_limit : int, optional
        Bytes that a process may use.

    Raises
    ------
    RowsError
        If the source can't be used; the message names what was found.
    InputError
        If there is a password in its URL.
    """
    if isinstance(source, (str, os.PathLike)) and not is_lake(source):
        source = normalize_path(source)
    elif is_paths(source):
        source = [normalize_path(path) for path in source]
    source, sample_weight = unwrap(source), unwrap(sample_weight, what="sample_weight", n_dimensions=1)
    request = ColumnRequest.of(columns, sample_weight if isinstance(sample_weight, str) else None, fitted, keep, where)
    rows = _opened(source, request, None if isinstance(sample_weight, str) else sample_weight, memory_limit)
    rows.memory_limit = memory_limit
    return rows


def _opened(source: Any, request: ColumnRequest, weights: Any, memory_limit: int | None) -> Rows:
    kind = detect_kind(source)
    if request.where is not None and not (
        isinstance(source, str) or kind in ("lake", "pyarrow.dataset") or is_paths(source)
    ):
        raise _no_filter(f"a {type(source).__module__.partition('.')[0]} {type(source).__name__}")
    if kind == "dask.array":
        from streamgmm.sources.dask_arrays import DaskRows
        from streamgmm.sources.dask_stores import see_stores

        _no_columns(request, "a Dask array")
        _nothing_to_keep(request, "a Dask array")
        return see_stores(DaskRows(source, sample_weight=weights, memory_limit=memory_limit))
    if kind == "dask.dataframe":
        from streamgmm.sources.dask_frames import open_dataframe
        from streamgmm.sources.dask_stores import see_stores

        return see_stores(open_dataframe(source, request, sample_weight=weights, memory_limit=memory_limit))
    rows = _random_access(source, kind, request, memory_limit)
    if weights is not None:
        if detect_kind(weights) == "dask.array":
            raise RowsError(
                "sample_weight can be a Dask array only where X is one; give a NumPy array or a column's name"
            )
        assert rows.n_rows is not None
        rows.sample_weight = as_sample_weight(weights, rows.n_rows)
    return rows


def _random_access(source: Any, kind: str, request: ColumnRequest, memory_limit: int | None) -> RandomAccessRows:
    if kind == "lake":
        from streamgmm.sources.parquet import ParquetRows

        return ParquetRows(open_lake(source), request, memory_limit=memory_limit)
    if isinstance(source, str):
        return _open_path(source, request, memory_limit)
    if kind == "pyarrow.dataset" or is_paths(source):
        from streamgmm.sources.parquet import ParquetRows

        return ParquetRows(source, request, memory_limit=memory_limit)
    if kind == "pandas":
        from streamgmm.sources.pandas_frames import PandasRows

        return PandasRows(source, request, memory_limit=memory_limit)
    if kind in ("pyarrow", "arrow"):
        from streamgmm.sources.arrow_tables import ArrowRows, as_table

        return ArrowRows(source if kind == "pyarrow" else as_table(source), request, memory_limit=memory_limit)
    if kind == "lazy table":
        raise RowsError(
            f"X is a {type(source).__module__.partition('.')[0]} LazyFrame, a query that is not computed: give its "
            "result, X.collect(), or write it with X.sink_parquet(path) and give the path"
        )
    _no_columns(request, f"a {type(source).__name__}")
    if kind == "zarr":
        from streamgmm.sources.zarr_arrays import ZarrRows

        name = f"the Zarr array {source.path or source.store}"
        return ZarrRows(source, description=name, keep=_names(request), memory_limit=memory_limit)
    if kind == "zarr group":
        from streamgmm.sources.zarr_arrays import open_group

        return open_group(source, keep=_names(request), memory_limit=memory_limit)
    if isinstance(source, np.ndarray):
        _nothing_to_keep(request, "an array")
        from streamgmm.sources.numpy_arrays import ArrayRows

        return ArrayRows(fill_masked(source), memory_limit=memory_limit)
    raise RowsError(f"X is a {type(source).__module__}.{type(source).__name__}; expected {_KINDS}")


def _open_path(path: str, request: ColumnRequest, memory_limit: int | None) -> RandomAccessRows:
    kind = ReadPolicy.of(path).call(lambda: detect_format(path), path)
    if kind == "parquet":
        from streamgmm.sources.parquet import ParquetRows

        return ParquetRows(path, request, memory_limit=memory_limit)
    _no_columns(request, path)
    if request.where is not None:
        raise _no_filter(path)
    if kind == "npy":
        _nothing_to_keep(request, path)
        if "://" in path:
            from streamgmm.sources.npy_files import RemoteNpyRows

            return RemoteNpyRows(path, memory_limit=memory_limit)
        from streamgmm.sources.numpy_arrays import NpyRows

        return NpyRows(path, memory_limit=memory_limit)
    from streamgmm.sources.zarr_arrays import open_zarr

    return open_zarr(path, keep=_names(request), memory_limit=memory_limit)


def _no_columns(request: ColumnRequest, what: str) -> None:
    if request.columns is not None:
        raise RowsError(f"columns= is for tables; {what} has no named columns")
    if request.weight is not None:
        raise RowsError(f"sample_weight={request.weight!r} names a column; {what} has none: give an array")


def _nothing_to_keep(request: ColumnRequest, what: str) -> None:
    if request.keep:
        raise RowsError(f"keep= is for tables, and for arrays of a Zarr group; {what} has nothing that goes with rows")


def _names(request: ColumnRequest) -> Sequence[str] | str:
    return request.keep if isinstance(request.keep, str) else [str(name) for name in request.keep]


def _no_filter(what: str) -> RowsError:
    return RowsError(f"where= is for Parquet files, of which it saves reading; {what} is none: select its rows before")
