"""Times in a Zarr array: whole or other numbers that count a unit of time from a start, by the CF conventions.

Source: NetCDF Climate and Forecast (CF) Metadata Conventions 1.11, section 4.4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError

if TYPE_CHECKING:
    import zarr

#: Units of time of the CF conventions whose length is always the same, in NumPy's words.
_UNITS = {"day": "D", "hour": "h", "hr": "h", "minute": "m", "min": "m", "second": "s", "sec": "s"} | {
    "millisecond": "ms", "msec": "ms", "microsecond": "us", "nanosecond": "ns", "d": "D", "h": "h", "s": "s",
}  # fmt: skip
_SINCE = re.compile(r"(?P<unit>[A-Za-z]+?)s? since (?P<start>\d{4}-\d{1,2}-\d{1,2}(?:[ T][\d:.]+)?)\s*(?:Z|UTC)?")
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
#: Of each unit, microseconds: in them times are told, all to 290,000 years; what counts nanoseconds is told in these.
_MICROSECONDS = {"D": 86_400e6, "h": 3600e6, "m": 60e6, "s": 1e6, "ms": 1e3, "us": 1.0}

#: The first day of the Gregorian calendar; before it the calendars that are called standard and gregorian are Julian.
_GREGORIAN = np.datetime64("1582-10-15")
OF_JULIUS = "has times before 1582-10-15, which its calendar counts as Julius Caesar did"
#: What to do about times that a column of a table can't have.
_INSTEAD = "write to a name that ends in .zarr, where it is kept as it is stored, or leave it out"
#: In the unit that times are told in: more than this, and less than what 64 bits hold.
_FARTHEST = 9.2e18


@dataclass(frozen=True)
class TimeCoding:
    """What the numbers of an array count.

    Attributes
    ----------
    unit : str
        In NumPy's words.
    start : str
        The point in time that 0 stands for.
    is_proleptic : bool
        Whether times before 1582 are in the Gregorian calendar too.
    """

    unit: str
    start: str
    is_proleptic: bool

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> TimeCoding | None:
        """Return what an array's numbers count; None where they are no times that can be told here."""
        units, calendar = array.attrs.get("units"), array.attrs.get("calendar", "standard")
        if not isinstance(units, str) or " since " not in units or np.dtype(array.dtype).kind not in "iuf":
            return None
        found = _SINCE.fullmatch(units.strip())
        if found is None or calendar not in _CALENDARS or found["unit"].lower() not in _UNITS:
            return None
        unit = _UNITS[found["unit"].lower()]
        finer = len(found["start"].partition(".")[2]) > 6
        if (unit == "ns" and np.dtype(array.dtype).kind == "f") or (unit != "ns" and finer):
            # Finer than what they would become.
            return None
        if unit == "ns" and not 1678 <= int(found["start"][:4]) < 2262:
            # Before or after what nanoseconds can tell.
            return None
        try:
            start = str(np.datetime64(_iso(found["start"])).astype(f"datetime64[{_finest(unit)}]"))
        except ValueError:
            return None
        return cls(unit, start, calendar == "proleptic_gregorian")

    @property
    def told_in(self) -> str:
        """The unit of the points in time."""
        return _finest(self.unit)

    @property
    def is_told(self) -> bool:
        """Whether the start is one that the Gregorian calendar has."""
        return self.is_proleptic or bool(np.datetime64(self.start) >= _GREGORIAN)

    def decode(self, stored: npt.NDArray[Any], missing: npt.NDArray[np.bool_], name: str) -> npt.NDArray[np.datetime64]:
        """Return the points in time that numbers stand for, any for those that are missing.

        Raises
        ------
        RowsError
            If one is too far away, or before the Gregorian calendar where the array's own was another then.
        """
        step = _MICROSECONDS.get(self.unit, 1.0)
        counts, first = np.where(missing, 0, stored), np.datetime64(self.start).astype(f"datetime64[{self.told_in}]")
        if counts.dtype.kind == "f":
            counts = counts.astype(np.float64)
        farthest = float(np.max(np.abs(counts.astype(np.float64)), initial=0.0)) * step + abs(float(first.astype(int)))
        if farthest > _FARTHEST:
            raise RowsError(
                f"keep: the array {name!r} has times more than 290,000 years (of nanoseconds, 290 years) away: "
                f"{_INSTEAD}"
            )
        if counts.dtype.kind == "f":
            from_start = np.round(counts * step).astype(np.int64)
        else:
            from_start = counts.astype(np.int64) * int(step)
        found: npt.NDArray[np.datetime64] = first + from_start.astype(f"timedelta64[{self.told_in}]")
        if not self.is_proleptic and len(found) and found[~missing].min(initial=first) < _GREGORIAN:
            raise RowsError(f"keep: the array {name!r} {OF_JULIUS}: {_INSTEAD}")
        return found


def absent_times(stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where numbers stand for no time, whatever an array says of missing values."""
    if stored.dtype.kind == "f":
        infinite: npt.NDArray[np.bool_] = ~np.isfinite(stored)
        return infinite
    # What xarray writes for a time that is missing, and says nothing of.
    least: npt.NDArray[np.bool_] = stored == np.iinfo(np.int64).min
    return least if stored.dtype == np.int64 else np.zeros(stored.shape, dtype=np.bool_)


def _finest(unit: str) -> str:
    """Return the unit that times are told in whose numbers count a unit."""
    return "ns" if unit == "ns" else "us"


def _iso(text: str) -> str:
    """Write a point in time with two digits each."""
    date, _, clock = text.replace("T", " ").partition(" ")
    year, month, day = date.split("-")
    parts = [*clock.split(":"), "0", "0"][:3] if clock else ["0", "0", "0"]
    seconds, _, fraction = parts[2].partition(".")
    return (
        f"{year}-{int(month):02}-{int(day):02}T{int(parts[0]):02}:{int(parts[1]):02}:{int(seconds):02}.{fraction or 0}"
    )
