"""Rows that have been read, and stay with the workers: passes after the first read no store."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.execution.broadcast import broadcast_task
from streamgmm.execution.tasks import tasks_of
from streamgmm.sources.base import Block, BlockFunction, Rows

if TYPE_CHECKING:
    import dask.array as da
    from dask.delayed import Delayed


class PersistedRows(Rows):
    """The rows of another source, kept in memory by whichever worker reads them first.

    Dask runs a task where the rows are that it needs, and reads rows again whose worker is gone. The tasks are those of
    the source, so the bits are the same.
    """

    in_memory = False
    piece_bytes = 0

    def __init__(self, source: Rows) -> None:
        self.source = source
        self.description, self.feature_names = source.description, source.feature_names
        self.n_rows, self.n_features, self.dtype = source.n_rows, source.n_features, source.dtype
        self._blocks: Sequence[Delayed] = ()

    @property
    def n_tasks(self) -> int:
        return self.source.n_tasks

    def persisted_blocks(self) -> Sequence[Delayed]:
        """Return the lazy blocks of each part; read again where a cluster has forgotten what it kept."""
        import dask

        if not self._blocks or _lost(self._blocks):
            self._blocks = dask.persist(*tasks_of(self.source).for_parts(_read, None))
        return self._blocks

    def some_tasks(self, numbers: Sequence[int]) -> Rows:
        return self.source.some_tasks(numbers)

    def task_start(self, number: int) -> int:
        return self.source.task_start(number)

    def task_rows(self, number: int) -> int | None:
        return self.source.task_rows(number)

    def stored_version(self) -> str | None:
        return self.source.stored_version()

    def fingerprint(self) -> dict[str, Any]:
        return self.source.fingerprint()

    def _partition_digest(self) -> str:
        return self.source._partition_digest()

    def _content_digest(self) -> str:
        return self.source._content_digest()


def _read(blocks: Iterable[Block], _: object) -> tuple[Block, ...]:
    # A block that is mapped from a file, or is a view of more rows than its own, would not be kept by itself.
    return tuple(replace(block, x=block.x if block.x.flags.owndata else np.array(block.x)) for block in blocks)


@dataclass(frozen=True)
class PersistedTasks:
    """Tasks that run where the blocks are that they need."""

    rows: PersistedRows

    def for_parts(self, function: BlockFunction, parameters: Any) -> list[Delayed]:
        blocks = self.rows.persisted_blocks()
        task = broadcast_task(partial(_apply, function), parameters, n_tasks=len(blocks))
        return [task(one) for one in blocks]

    def for_groups(
        self,
        function: BlockFunction,
        parameters: Any,
        groups: Sequence[Sequence[int]],
        combine: Callable[..., Any],
    ) -> None:
        return None

    def as_array(
        self, function: BlockFunction, parameters: Any, *, n_columns: int | None, dtype: npt.DTypeLike
    ) -> da.Array:
        return tasks_of(self.rows.source).as_array(function, parameters, n_columns=n_columns, dtype=dtype)


@tasks_of.register
def _(rows: PersistedRows) -> PersistedTasks:
    return PersistedTasks(rows)


def _apply(function: BlockFunction, parameters: Any, blocks: tuple[Block, ...]) -> Any:
    return function(iter(blocks), parameters)


def _lost(blocks: Sequence[Delayed]) -> bool:
    """Whether a cluster has forgotten what it kept: with its scheduler, say."""
    if "distributed" not in sys.modules:
        return False
    from distributed.client import futures_of

    return any(future.status in ("cancelled", "lost", "error") for future in futures_of(blocks))
