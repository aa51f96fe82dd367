"""What a user's graph gives is looked at before compiled code sees it: a plain array, of the shape that was said.

Dask believes what a collection says of its chunks, and looks at none of them. A kernel that believed it too would read
beyond the end of a chunk that is narrower, and take a wider one for other rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError
from streamgmm.sources.base import check_dtype, check_not_masked


def fill_masked_array(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array in which NaN stands for what was masked; integers become float64 where anything was."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    if not np.ma.is_masked(array):
        return np.asarray(np.ma.getdata(array))
    dtype = np.float64 if array.dtype.kind in "iub" else array.dtype
    values: npt.NDArray[Any] = np.array(np.ma.getdata(array), dtype=dtype)
    if values.dtype.kind == "f":  # others are refused for their dtype
        values[np.ma.getmaskarray(array)] = np.nan
    return np.asarray(values)


def unmasked_dtype(array: Any) -> np.dtype[Any]:
    """Return the dtype that what an array stands for has once masks are NaN."""
    integers = isinstance(array, np.ma.MaskedArray) and array.dtype.kind in "iub"
    return np.dtype(np.float64) if integers else np.dtype(array.dtype)


def remedy_for_array_type(kind: type) -> str | None:
    """Say how an array that is none of NumPy's becomes one; None where that is not known to be needed."""
    library = kind.__module__.partition(".")[0]
    if kind.__module__.startswith("scipy.sparse"):
        return "map_blocks(lambda b: b.toarray()) makes dense chunks of sparse ones"
    if library == "sparse":
        return "map_blocks(lambda b: b.todense()) makes dense chunks of sparse ones"
    if library == "cupy":
        return "map_blocks(lambda b: b.get()) moves chunks from the GPU"
    return None


def as_plain_array(value: Any, where: str) -> npt.NDArray[Any]:
    """Return what a chunk holds as an array of real numbers of NumPy's own kind; NaN where it is masked.

    Raises
    ------
    RowsError
        If it is no such array; `where` names the chunk.
    """
    remedy = remedy_for_array_type(type(value))
    if remedy is None:
        try:
            array = np.asarray(value) if not isinstance(value, np.ma.MaskedArray) else fill_masked_array(value)
        except MemoryError:
            raise
        except Exception as error:  # of whatever library the object is
            raise RowsError(
                f"{where} is a {_name(value)}, which is no NumPy array and can't be made one "
                f"({' '.join(str(error).split())[:200] or type(error).__name__}): convert it with map_blocks"
            ) from error
        if isinstance(value, np.ndarray) or array.dtype != object:
            check_dtype(array.dtype, where)
            return array
        remedy = "let what makes the chunk return a NumPy array"
    raise RowsError(f"{where} is a {_name(value)}, and not a NumPy array: {remedy}")


def check_chunk(x: npt.NDArray[Any], where: str, *, n_rows: int | None, n_features: int, see: str) -> None:
    """Raise RowsError unless an array has the shape that was said of it.

    Parameters
    ----------
    x : ndarray
    where : str
        Names the chunk.
    n_rows : int or None
        None where it is not known.
    n_features : int
    see : str
        How to look at the chunk.
    """
    said = f"({'any' if n_rows is None else n_rows}, {n_features})"
    if x.ndim != 2:
        what = f"{x.ndim} dimension(s)"
    elif x.shape[1] != n_features:
        what = f"{x.shape[1]} column(s)"
    elif n_rows is not None and x.shape[0] != n_rows:
        what = f"{x.shape[0]} row(s)"
    else:
        return
    raise RowsError(f"{where} has {what}, shape {x.shape}, where Dask says {said}: mend what makes it ({see} shows it)")


def as_chunk_weights(value: Any, where: str, *, n_rows: int) -> npt.NDArray[Any]:
    """Return the weights of a chunk of rows as an array of shape (n_rows,).

    Raises
    ------
    RowsError
        If they are no such array, or one is masked; `where` names the chunk.
    """
    where = f"sample_weight of {where}"
    if isinstance(value, np.ma.MaskedArray):
        check_not_masked(value, where)
    if type(value).__module__.startswith("pandas") and value.dtype != object:
        # Nullable columns have a missing value that is not NaN.
        value = value.to_numpy(dtype=np.float64, na_value=np.nan)
    weights = as_plain_array(value, where)
    if weights.shape != (n_rows,):
        raise RowsError(
            f"{where} has shape {weights.shape}, and there are {n_rows} rows, shape ({n_rows},): give weights in the "
            "same chunks as X, one for each row"
        )
    return weights


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
