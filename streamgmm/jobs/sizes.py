"""Numbers of components as users write them."""

from __future__ import annotations

from streamgmm.exceptions import InputError

#: More than anybody compares.
_MOST = 10_000


def read_sizes(value: str | list[int]) -> list[int]:
    """Read "1:20" (both ends count), "1:20:2" or "2,4,8".

    Raises
    ------
    InputError
        If it is nothing of that kind.

    Examples
    --------
    >>> read_sizes("1:7:3"), read_sizes("2,4,8")
    ([1, 4, 7], [2, 4, 8])
    """
    if isinstance(value, list) and value:
        return list(value)
    if isinstance(value, list):
        raise InputError("components: expected a range such as 1:20, or numbers such as [2, 4, 8]; got none")
    try:
        if ":" in value:
            first, last, *rest = (int(part) for part in value.split(":"))
            step = rest[0] if rest else 1
            sizes = (
                list(range(first, min(last, first + _MOST * max(step, 1)) + 1, step))
                if len(rest) <= 1 and step > 0
                else []
            )
        else:
            sizes = [int(part) for part in value.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise InputError(f"components: expected a range such as 1:20, or numbers such as 2,4,8; got {value!r}")
    return sizes
