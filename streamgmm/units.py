"""Sizes in bytes, as users write them and as they are shown: decimal, 1 GB is 10^9 bytes."""

from __future__ import annotations

from typing import Any

from streamgmm.exceptions import InputError


def parse_memory_limit(limit: Any) -> int | None:
    """Turn ``"2GB"``, ``"512MiB"``, a number of bytes or None into bytes."""
    if limit is None:
        return None
    from dask.utils import parse_bytes

    try:
        n_bytes = parse_bytes(limit)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise InputError(f"memory_limit must be bytes, or a text such as '2GB'; got {limit!r}") from None
    if n_bytes <= 0:
        raise InputError(f"memory_limit must be positive, got {limit!r}")
    return int(n_bytes)


def show_size(n_bytes: float) -> str:
    """Say how much memory or data so many bytes are."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{int(n_bytes)} bytes"
