"""The cut of the rows into tasks: from the data's own pieces and the memory limit alone, never from the workers.

That is what makes a fit give the same bits on any number of them.
"""

from streamgmm.exceptions import MemoryLimitError
from streamgmm.sources.base import RowRange
from streamgmm.units import show_size

#: Decoded bytes that one task reads at most, where the data's own pieces allow: a task on a cluster costs 1 to 6 ms.
STORED_TASK_BYTES = 64 * 2**20
#: Tasks of a small store, where the pieces below allow: of 15 tasks two workers have 8 and 7.
_FEWEST_TASKS = 24
#: The same for rows in this process's memory, where a task costs 0.2 ms.
MEMORY_TASK_BYTES = 8 * 2**20
#: Decoded bytes that a task holds at once, where the data's own pieces allow: it reads, computes and forgets them.
PIECE_BYTES = 16 * 2**20
#: How many times a piece's decoded bytes a task may have in memory: the encoded piece, its decoded copies, and what is
#: not yet given back of the piece before.
COPIES = 4


def limit_task_bytes(default: int, memory_limit: int | None) -> int:
    """Return how many decoded bytes a task may read, or hold, under a memory limit per process."""
    if memory_limit is None:
        return default
    return max(1, min(default, memory_limit // (2 * COPIES)))


def choose_task_bytes(n_bytes: int, memory_limit: int | None) -> int:
    """Return how many decoded bytes a task may read of a store that has so many."""
    return limit_task_bytes(min(STORED_TASK_BYTES, max(PIECE_BYTES, n_bytes // _FEWEST_TASKS)), memory_limit)


def partition_rows(n_rows: int, row_bytes: int, piece_rows: int, target_bytes: int) -> tuple[RowRange, ...]:
    """Cut rows into tasks of whole pieces, as many as fit into `target_bytes`, and one at least.

    Parameters
    ----------
    n_rows : int
    row_bytes : int
        Bytes of a decoded row.
    piece_rows : int
        Rows of the data's own pieces (chunks, shards).
    target_bytes : int
        Decoded bytes of a task.
    """
    rows_per_task = max(1, target_bytes // (row_bytes * piece_rows)) * piece_rows
    return tuple(RowRange(start, min(start + rows_per_task, n_rows)) for start in range(0, n_rows, rows_per_task))


def fits(n_bytes: int, memory_limit: int | None) -> bool:
    """Whether so many decoded bytes can be read at once under a memory limit."""
    return memory_limit is None or n_bytes * COPIES <= memory_limit


def check_piece(n_bytes: int, memory_limit: int | None, what: str) -> None:
    """Raise MemoryLimitError where a piece that must be decoded as a whole can't fit."""
    if memory_limit is not None and not fits(n_bytes, memory_limit):
        needed = n_bytes * COPIES
        raise MemoryLimitError(
            f"{what}: one piece decodes to {show_size(n_bytes)} and takes up to {show_size(needed)} while it is read, "
            f"more than memory_limit={show_size(memory_limit)}: raise the limit, or store smaller chunks"
        )
