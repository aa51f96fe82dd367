"""A sample of any length: a lazy Dask array whose chunks are drawn where they are needed."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.gaussian.sampling import draw_labels, draw_rows
from streamgmm.typing import Integers

if TYPE_CHECKING:
    import dask.array as da


def draw_lazily(
    parameters: MixtureParameters, n_samples: int, seed: int, chunks: int | str
) -> tuple[da.Array, da.Array]:
    """Return rows of the sequence of a seed and their components: the same numbers whatever the chunks."""
    import dask.array as da

    n_features = parameters.n_features
    wanted: Any = (chunks, -1) if isinstance(chunks, (numbers.Integral, str)) else chunks
    rows, columns = da.core.normalize_chunks(wanted, shape=(n_samples, n_features), dtype=np.float64)
    places = da.from_array(np.concatenate([[0], np.cumsum(rows)[:-1]]).astype(np.int64), chunks=1)
    sizes = da.from_array(np.array(rows, dtype=np.int64), chunks=1)
    x = da.map_blocks(
        _rows,
        places,
        sizes,
        parameters,
        seed,
        chunks=(rows, columns),
        new_axis=1,
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    y = da.map_blocks(
        _labels, places, sizes, parameters, seed, chunks=(rows,), dtype=np.int64, meta=np.empty(0, dtype=np.int64)
    )
    return x, y


def _rows(
    place: npt.NDArray[Any], size: npt.NDArray[Any], parameters: MixtureParameters, seed: int
) -> npt.NDArray[np.float64]:
    return draw_rows(parameters, int(place[0]), int(size[0]), seed)[0]


def _labels(place: npt.NDArray[Any], size: npt.NDArray[Any], parameters: MixtureParameters, seed: int) -> Integers:
    return draw_labels(parameters, int(place[0]), int(size[0]), seed)
