"""From whatever a user calls data to `Rows`: the one place that looks at its kind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from streamgmm.exceptions import RowsError
from streamgmm.rows.base import RandomAccessRows, Rows, check_sample_weight
from streamgmm.rows.reading import Reading
from streamgmm.rows.unwrapping import unwrapped, without_masks
from streamgmm.storage import check_url

_KINDS = (
    "a NumPy array, a pandas DataFrame, a pyarrow Table, a zarr.Array or Group, a Dask array or DataFrame, an "
    "xarray DataArray, or the path of a .npy file, a Zarr store or Parquet files"
)


_STORED = ("dask.array", "dask.dataframe", "zarr", "zarr group")


def is_stored(source: Any) -> bool:
    """Tell whether a source's rows are read lazily: Dask collections, Zarr arrays, paths."""
    return isinstance(source, (str, os.PathLike)) or kind_of(source) in _STORED


def kind_of(source: Any) -> str:
    """Name the kind of an object without importing what defines it: its library, or "other"."""
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
    return "other"


def open_rows(
    source: Any,
    *,
    sample_weight: Any = None,
    columns: Sequence[str] | None = None,
    default_columns: Sequence[str] | None = None,
    memory_limit: int | None = None,
) -> Rows:
    """Make `Rows` of data of any supported kind.

    Parameters
    ----------
    source : array, table, Dask collection, or path
        See the package's README for the kinds.
    sample_weight : array of shape (n_rows,), str, or None
        Weights of the rows, or the name of the column that holds them.
    columns : sequence of str, optional
        The features of a table.
    default_columns : sequence of str, optional
        The same where `columns` is not given, and nothing to what has no named columns.
    memory_limit : int, optional
        Bytes that a process may use.

    Raises
    ------
    RowsError
        If the source can't be used; the message names what was found.
    InputError
        If there is a password in its URL.
    """
    if isinstance(source, (str, os.PathLike)):
        check_url(os.fspath(source))
    source, sample_weight = unwrapped(source), unwrapped(sample_weight, what="sample_weight", n_dimensions=1)
    rows = _opened(source, sample_weight, columns, default_columns, memory_limit)
    rows.memory_limit = memory_limit
    return rows


def _opened(
    source: Any,
    sample_weight: Any,
    columns: Sequence[str] | None,
    default_columns: Sequence[str] | None,
    memory_limit: int | None,
) -> Rows:
    weight_column = sample_weight if isinstance(sample_weight, str) else None
    weights = None if weight_column is not None else sample_weight
    kind = kind_of(source)
    if kind == "dask.array":
        from streamgmm.rows.collections import DaskRows

        _no_columns(columns, weight_column, "a Dask array")
        return DaskRows(source, sample_weight=weights, memory_limit=memory_limit)
    if columns is None and default_columns is not None and _has_columns(source, kind):
        columns = default_columns
    if kind == "dask.dataframe":
        from streamgmm.rows.partitions import rows_of_dataframe

        return rows_of_dataframe(
            source, columns=columns, weight_column=weight_column, sample_weight=weights, memory_limit=memory_limit
        )
    rows = _random_access(source, kind, columns, weight_column, memory_limit)
    if weights is not None:
        if kind_of(weights) == "dask.array":
            raise RowsError(
                "sample_weight can be a Dask array only where X is one; give a NumPy array or a column's name"
            )
        assert rows.n_rows is not None
        rows.sample_weight = check_sample_weight(weights, rows.n_rows)
    return rows


def _has_columns(source: Any, kind: str) -> bool:
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return Reading.of(path).call(lambda: _kind_of_path(path), path) == "parquet"
    return kind in ("pyarrow", "dask.dataframe")


def _random_access(
    source: Any, kind: str, columns: Sequence[str] | None, weight_column: str | None, memory_limit: int | None
) -> RandomAccessRows:
    if isinstance(source, (str, os.PathLike)):
        return _open_path(os.fspath(source), columns, weight_column, memory_limit)
    if kind == "pandas":
        from streamgmm.rows.tables import PandasRows

        return PandasRows(source, columns=columns, weight_column=weight_column, memory_limit=memory_limit)
    if kind == "pyarrow":
        from streamgmm.rows.tables import ArrowRows

        return ArrowRows(source, columns=columns, weight_column=weight_column, memory_limit=memory_limit)
    _no_columns(columns, weight_column, f"a {type(source).__name__}")
    if kind == "zarr":
        from streamgmm.rows.zarr_store import ZarrRows

        return ZarrRows(source, description=f"the Zarr array {source.path or source.store}", memory_limit=memory_limit)
    if kind == "zarr group":
        from streamgmm.rows.zarr_store import rows_of_group

        return rows_of_group(source, memory_limit=memory_limit)
    if isinstance(source, np.ndarray):
        from streamgmm.rows.arrays import ArrayRows

        return ArrayRows(without_masks(source), memory_limit=memory_limit)
    raise RowsError(f"X is a {type(source).__module__}.{type(source).__name__}; expected {_KINDS}")


def _open_path(
    path: str, columns: Sequence[str] | None, weight_column: str | None, memory_limit: int | None
) -> RandomAccessRows:
    if "://" not in path:
        # Workers may run in another folder.
        path = os.path.abspath(path)
    kind = Reading.of(path).call(lambda: _kind_of_path(path), path)
    if kind == "parquet":
        from streamgmm.rows.parquet import ParquetRows

        return ParquetRows(path, columns=columns, weight_column=weight_column, memory_limit=memory_limit)
    _no_columns(columns, weight_column, path)
    if kind == "npy":
        from streamgmm.rows.arrays import NpyRows

        return NpyRows(path, memory_limit=memory_limit)
    from streamgmm.rows.zarr_store import open_zarr

    return open_zarr(path, memory_limit=memory_limit)


def _kind_of_path(path: str) -> str:
    """Tell what is stored at a path, by its name and then by what is there."""
    import fsspec

    if any(c in path for c in "*?["):
        return "parquet"
    filesystem, root = fsspec.core.url_to_fs(path)
    if not filesystem.exists(root):
        raise RowsError(f"{path} does not exist")
    if path.endswith(".npy"):
        return "npy"
    if filesystem.isdir(root):
        markers = ("zarr.json", ".zarray", ".zgroup")
        if any(filesystem.exists(f"{root.rstrip('/')}/{marker}") for marker in markers):
            return "zarr"
        if any(f.endswith((".parquet", ".parq", ".pq")) for f in filesystem.find(root)):
            return "parquet"
        raise RowsError(f"{path} is a folder, but neither a Zarr store nor one with Parquet files (*.parquet)")
    if path.endswith((".parquet", ".parq", ".pq")):
        return "parquet"
    with filesystem.open(root, "rb") as file:
        start = file.read(6)
    if start.startswith(b"PAR1"):
        return "parquet"
    if path.endswith(".zip"):
        return "zarr"
    raise RowsError(f"{path} is neither a .npy file, nor a Zarr store, nor a Parquet file")


def _no_columns(columns: Sequence[str] | None, weight_column: str | None, what: str) -> None:
    if columns is not None:
        raise RowsError(f"columns= is for tables; {what} has no named columns")
    if weight_column is not None:
        raise RowsError(f"sample_weight={weight_column!r} names a column; {what} has none: give an array")
