"""Predictions written to a store: labels, responsibilities or densities of any number of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from streamgmm.estimator import GaussianMixture
from streamgmm.exceptions import InputError
from streamgmm.mixture.parameters import MixtureParameters
from streamgmm.passes import run_pass
from streamgmm.predictions import KINDS, Predict, n_columns_of
from streamgmm.rows.base import Block, RandomAccessRows
from streamgmm.rows.results import ResultStore, result_store, written_whole

#: The name of a result's column, or columns, by its kind.
_COLUMN = {"labels": "label", "proba": "proba", "log_density": "log_density"}


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
    output: str,
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
    output : str
        A name that ends in .zarr (one array, chunked along the rows) or .parquet (a folder of files whose names sort in
        the order of the rows). It appears when everything is written, and not before.
    kind : {"labels", "proba", "log_density"}, default="labels"
        int64 labels (column "label"), float64 responsibilities ("proba_0", "proba_1", ...) or float64 log-densities in
        nats ("log_density").
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
        If the kind, the source or the output can't be used.
    OutputExistsError
        If the output exists and `overwrite` is false.

    Examples
    --------
    >>> import tempfile, numpy as np, zarr
    >>> from streamgmm import GaussianMixture, write_predictions
    >>> x = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> model = GaussianMixture(2, random_state=0).fit(x)
    >>> folder = tempfile.mkdtemp()
    >>> write_predictions(model, x, f"{folder}/labels.zarr")
    4
    >>> labels = zarr.open_array(f"{folder}/labels.zarr")[:]
    >>> bool((labels == model.predict(x)).all())
    True
    """
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(map(repr, KINDS))}; got {kind!r}")
    rows, parameters = model.open(source, columns=columns), model.parameters()
    if not isinstance(rows, RandomAccessRows) or rows.n_rows is None:
        raise InputError("source is a Dask collection: model.predict(source) gives a lazy Dask array to write")
    n_columns = n_columns_of(kind, parameters)
    named = result_store(output, _COLUMN[kind], rows.n_rows, n_columns, KINDS[kind], overwrite=overwrite)
    ranges = named.ranges(rows.ranges)
    with written_whole(named) as store:
        store.create(rows.ranges)
        n_written: int = run_pass(
            rows.recut(ranges), _Write(Predict(kind, model.missing, rows.provenance), store), parameters
        )
    return n_written
