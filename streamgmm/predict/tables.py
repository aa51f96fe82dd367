"""Scores of the rows of a table as a table of the same kind: of pandas, polars, Arrow or, lazily, Dask."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import InputError
from streamgmm.execution.passes import run_pass
from streamgmm.gaussian.parameters import MixtureParameters
from streamgmm.predict.scores import ScoreColumn, Scorer
from streamgmm.sources.base import Block
from streamgmm.sources.dask_arrays import Chunk
from streamgmm.sources.dask_frames import PartitionReader, narrow_frame
from streamgmm.sources.open import detect_kind
from streamgmm.sources.schema import ColumnRequest

if TYPE_CHECKING:
    from streamgmm.estimators.scoring import ScoringMixture


def score_table(
    model: ScoringMixture,
    frame: Any,
    write: tuple[str, ...],
    threshold: float | None,
    float_type: str,
    *,
    keep: Sequence[Hashable] | str,
    columns: Sequence[str] | None,
    prefix: str,
) -> Any:
    """Evaluate a fitted mixture at the rows of a table; see `GaussianMixture.predict_table`."""
    kind = detect_kind(frame)
    if kind not in ("pandas", "arrow", "pyarrow", "dask.dataframe"):
        raise InputError(
            f"predict_table takes a DataFrame of pandas, polars or Dask, or an Arrow table; got a "
            f"{type(frame).__module__}.{type(frame).__name__}: predict, predict_proba and score_samples take arrays, "
            "write_predictions what is stored"
        )
    parameters = model._parameters()
    rows = model._open(frame, columns=columns, keep=keep)
    scorer = Scorer(write, model.missing, rows.provenance, model._clusters(), threshold, float_type)
    results = scorer.columns(parameters.n_components)
    kept = () if rows.kept is None else rows.kept.names
    names = [prefix + name for column in results.values() for name in column.names]
    for name in names:
        if name in kept:
            raise InputError(
                f"keep: the column {name!r} has the name of a result; leave it out, or give the results other names "
                "with prefix="
            )
    if kind == "dask.dataframe":
        return _score_lazily(model, frame, scorer, columns=columns, keep=keep, prefix=prefix)
    n_rows = rows.n_rows or 0
    out = {name: np.empty(_shape(n_rows, column), dtype=column.dtype) for name, column in results.items()}
    run_pass(rows, _Fill(scorer, out), parameters)
    values = _by_column(out, results, prefix)
    return _join(frame, kind, keep, values)


@dataclass(frozen=True)
class _Fill:
    """A block function that writes the scores of each block into arrays; returns how many rows it wrote."""

    scorer: Scorer
    out: Mapping[str, npt.NDArray[Any]]

    def __call__(self, blocks: Iterable[Block], parameters: MixtureParameters) -> int:
        n = 0
        for block in blocks:
            for name, values in self.scorer(block, parameters).values.items():
                self.out[name][block.start : block.start + len(block.x)] = values
            n += len(block.x)
        return n


def _shape(n_rows: int, column: ScoreColumn) -> tuple[int, ...]:
    return (n_rows,) if column.n_columns is None else (n_rows, column.n_columns)


def _by_column(
    scores: Mapping[str, npt.NDArray[Any]], columns: Mapping[str, ScoreColumn], prefix: str
) -> dict[str, npt.NDArray[Any]]:
    """Return the columns of a table, by their names in it."""
    found: dict[str, npt.NDArray[Any]] = {}
    for name, column in columns.items():
        of_table = scores[name].reshape(len(scores[name]), column.n_columns or 1).T
        found.update((prefix + one, values) for one, values in zip(column.names, of_table, strict=True))
    return found


def _join(frame: Any, kind: str, keep: Sequence[Hashable] | str, values: dict[str, npt.NDArray[Any]]) -> Any:
    """Put results next to columns of a table in memory."""
    if kind == "pandas":
        return _join_pandas(frame, keep, values)
    if type(frame).__module__.startswith("polars"):
        results = type(frame)(values)
        names = frame.columns if keep == "all" else [str(name) for name in keep]
        return frame.select(names).hstack(results) if names else results
    import pyarrow as pa

    from streamgmm.sources.arrow_tables import as_table

    table = frame if kind == "pyarrow" else as_table(frame)
    table = table.select(table.column_names if keep == "all" else [str(name) for name in keep])
    for name, column in values.items():
        # To a table without columns any can be added.
        table = table.append_column(name, pa.array(column))
    return table.combine_chunks().to_batches()[0] if isinstance(frame, pa.RecordBatch) else table


def _join_pandas(frame: Any, keep: Sequence[Hashable] | str, values: dict[str, npt.NDArray[Any]]) -> Any:
    import pandas as pd

    results = pd.DataFrame(values, index=frame.index)
    # The index is kept as it is; its names may be asked for as columns of a file can be.
    names = list(frame.columns) if keep == "all" else [name for name in keep if name in frame.columns]
    return pd.concat([frame[names], results], axis=1) if names else results


@dataclass(frozen=True)
class _ScorePartition:
    """Scores a partition of a Dask DataFrame."""

    scorer: Scorer
    reader: PartitionReader
    keep: tuple[Hashable, ...]
    prefix: str

    def __call__(self, partition: Any, parameters: MixtureParameters, partition_info: Any = None) -> Any:
        number = 0 if partition_info is None else partition_info["number"]
        block = self.reader.block([partition], (), Chunk(number, 0, None))
        columns = self.scorer.columns(parameters.n_components)
        found = self.scorer(block, parameters).values
        return _join_pandas(partition, self.keep, _by_column(found, columns, self.prefix))


def _score_lazily(
    model: ScoringMixture,
    frame: Any,
    scorer: Scorer,
    *,
    columns: Sequence[str] | None,
    keep: Sequence[Hashable] | str,
    prefix: str,
) -> Any:
    from dask import delayed

    request = ColumnRequest.of(columns, None, model._fitted_schema(), keep)
    chosen = request.choose(list(frame.columns), "the Dask DataFrame X", index=[frame.index.name])
    kept = tuple(name for name in chosen.kept if name in frame.columns)
    reader = PartitionReader("the Dask DataFrame X", replace(chosen, kept=()))
    parameters = model._parameters()
    no_rows = {name: np.empty(_shape(0, c), c.dtype) for name, c in scorer.columns(parameters.n_components).items()}
    meta = _join_pandas(frame._meta, kept, _by_column(no_rows, scorer.columns(parameters.n_components), prefix))
    function = _ScorePartition(scorer, reader, kept, prefix)
    return narrow_frame(frame, chosen.all).map_partitions(function, delayed(parameters, traverse=False), meta=meta)
