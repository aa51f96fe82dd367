"""Sizes of memory, as users write them and as the machine has them."""

from typing import Any

from streamgmm.exceptions import InputError


def parse_memory_limit(limit: Any) -> int | None:
    """Turn ``"2GB"``, ``"512MiB"``, a number of bytes or None into bytes."""
    if limit is None:
        return None
    from dask.utils import parse_bytes

    try:
        n_bytes = parse_bytes(limit)
    except (ValueError, TypeError, AttributeError):
        raise InputError(f"memory_limit must be bytes, or a text such as '2GB'; got {limit!r}") from None
    if n_bytes <= 0:
        raise InputError(f"memory_limit must be positive, got {limit!r}")
    return int(n_bytes)


def get_process_memory() -> int:
    """Return the bytes that this process has and could still get of the machine's memory."""
    import psutil

    return int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)
