"""Predictions written to a store: labels, responsibilities or densities of any number of rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from streamgmm.exceptions import InputError
from streamgmm.execution.passes import run_pass
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.predict.evaluate import KINDS, Predict
from streamgmm.predict.stores import ResultStore, check_result_place, name_store, write_atomically
from streamgmm.sources.base import Block, RandomAccessRows
from streamgmm.storage.places import InUse, check_apart, find_places

if TYPE_CHECKING:
    from streamgmm.estimators.gaussian_mixture import GaussianMixture

#: The name of a result's column, or columns, by its kind.
_COLUMN = {"labels": "label", "proba": "proba", "log_density": "log_density"}


def _is_of_xarray(source: Any) -> bool:
    return type(source).__module__.startswith("xarray.")


@dataclass(frozen=True)
class _Write:
    predict: Predict
    store: ResultStore

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> int:
        blocks = iter(blocks)
        first = next(blocks)
        pieces = (piece for block in chain([first], blocks) for piece in block.pieces(self.store.piece_rows))
        return self.store.write(first.start, (self.predict.block(piece, parameters) for piece in pieces))


def write_predictions(
    model: GaussianMixture,
    source: Any,
    output: str | os.PathLike[str],
    *,
    kind: str = "labels",
    columns: Sequence[str] | None = None,
    overwrite: bool = False,
) -> int:
    """Evaluate a fitted mixture at rows of any number, and write the results to a store.

    Parameters
    ----------
    model : GaussianMixture
        A fitted model.
    source : array, table, zarr.Array, str or path
        The rows; anything that `GaussianMixture.fit` takes but Dask collections, of which `GaussianMixture.predict`
        makes lazy arrays.
    output : str or path
        A name that ends in .zarr (a group that `xarray.open_zarr` opens, with one array of dimensions "row" and
        "component", chunked along the rows) or .parquet (a folder of files whose names sort in the order of the rows).
        It appears when everything is written, and not before. It must not be the source, lie inside it or contain it.
    kind : {"labels", "proba", "log_density"}, default="labels"
        int64 labels (array or column "label"), float64 responsibilities (array "proba", columns "proba_0", "proba_1",
        ...) or float64 log-densities in nats ("log_density").
    columns : sequence of str, default=None
        The features of a table; those of the fit where not given.
    overwrite : bool, default=False
        Whether to replace what is there.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    InputError
        If the kind, the source or the output can't be used; whether anything can be written there is tried first.
    OutputExistsError
        If the output exists and `overwrite` is false.
    OutputError
        If the output can't be written: no permission, no room, no folder that it would be in.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr
    >>> from streamgmm import GaussianMixture, write_predictions
    >>> x = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> model = GaussianMixture(2, random_state=0).fit(x)
    >>> folder = tempfile.mkdtemp()
    >>> write_predictions(model, x, f"{folder}/labels.zarr")
    4
    >>> labels = zarr.open_group(f"{folder}/labels.zarr")["label"][:]
    >>> bool((labels == model.predict(x)).all())
    True
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(map(repr, KINDS))}; got {kind!r}")
    parameters = model._parameters()
    check_apart(output, InUse("the rows", find_places(source)), *model._places_in_use())
    check_result_place(output, overwrite=overwrite)
    if _is_of_xarray(source):
        raise InputError(
            "source is of xarray: model.predict(source) gives a DataArray on its grid, which writes itself, "
            ".to_zarr(...)"
        )
    rows = model._open(source, columns=columns)
    if not isinstance(rows, RandomAccessRows) or rows.n_rows is None:
        raise InputError("source is a Dask collection: model.predict(source) gives a lazy Dask array to write")
    function = model._predictor(kind, rows)
    n_columns = function.count_columns(parameters)
    named = name_store(output, _COLUMN[kind], rows.n_rows, n_columns, function.dtype, function.of)
    ranges = named.ranges(rows.ranges)
    with write_atomically(named) as store:
        store.create(rows.ranges)
        n_written: int = run_pass(rows.repartition(ranges), _Write(function, store), parameters)
    return n_written
