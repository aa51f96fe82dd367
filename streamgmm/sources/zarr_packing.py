"""Values that stand for others in a Zarr array, by the CF conventions: what is missing, scaled, shifted, unsigned.

Climate stores keep temperatures as 16-bit integers with a scale, an offset and a number for "missing" in the array's
attributes. They are unpacked to the values and dtypes that xarray's ``open_zarr`` gives, a piece at a time.

Source: NetCDF Climate and Forecast (CF) Metadata Conventions 1.11, sections 2.5.1 and 8.1; the rules for dtypes are
xarray's.
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError

if TYPE_CHECKING:
    import zarr

_DURATIONS = ("days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds")


@dataclass(frozen=True)
class Packing:
    """How an array's values are unpacked.

    Attributes
    ----------
    dtype : dtype
        Of the unpacked values.
    integer : dtype
        What the stored numbers are read as: their own dtype, or with a sign or without one.
    masked_dtype : dtype
        In which missing values are looked for.
    missing : tuple of number
        What stands for a missing value.
    scale_factor, add_offset : float or None
    """

    dtype: np.dtype[Any]
    integer: np.dtype[Any]
    masked_dtype: np.dtype[Any]
    missing: tuple[Any, ...]
    scale_factor: float | None
    add_offset: float | None

    def unpack(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the values that stored numbers stand for; NaN where they stand for a missing one."""
        stored = self.reread(stored)
        # A copy: what a store gives may be its own.
        values: npt.NDArray[Any] = stored.astype(self.masked_dtype)
        if self.missing:
            is_missing = np.zeros(stored.shape, dtype=np.bool_)
            for one in self.missing:
                is_missing |= values == np.float64(one)
                if stored.dtype.kind == "f":
                    # 1e20 in the attributes, the nearest float32 in the array.
                    with np.errstate(over="ignore"):
                        nearest = stored.dtype.type(one)
                    if np.isfinite(nearest):
                        is_missing |= stored == nearest
            values[is_missing] = np.nan
        values = values.astype(self.dtype, copy=False)
        if self.scale_factor is not None:
            values *= self.scale_factor
        if self.add_offset is not None:
            values += self.add_offset
        return values

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers, some of which may be missing."""
        return self.integer.kind in "iu" and self.dtype.kind != "b" and self.scale_factor is self.add_offset is None

    def reread(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return stored numbers with a sign, or without one, as they are meant."""
        return stored.astype(self.integer, copy=False)


def packing_of(array: zarr.Array[Any], what: str) -> Packing | None:
    """Return how an array is unpacked, by its attributes; None where what is stored are the values.

    Raises
    ------
    RowsError
        If its numbers are times, or an attribute can't be understood.
    """
    attributes = dict(array.attrs)
    dtype = np.dtype(array.dtype)
    _check_no_times(attributes, what)
    fills = missing_numbers(array, what)
    integer = _integer_dtype(dtype, attributes)
    missing = tuple(value for one in fills.values() for value in as_read(one, dtype, integer))
    scale_factor = _number(attributes, "scale_factor", what)
    add_offset = _number(attributes, "add_offset", what)
    packed = scale_factor is not None or add_offset is not None
    masked = result = integer
    if missing:
        masked = result = np.dtype(np.float64) if packed else _with_missing(integer)
    if packed and (not fills or result.kind != "f"):
        # The numbers of attributes are float64: JSON has no others. (Floats whose missing value is NaN stay what they
        # are, in xarray too.)
        result = np.dtype(np.float64)
    if attributes.get("dtype") == "bool" and not packed and not missing:
        result = np.dtype(np.bool_)
    if not packed and not missing and result == dtype:
        return None
    return Packing(result, integer, masked, missing, scale_factor, add_offset)


def _check_no_times(attributes: dict[str, Any], what: str) -> None:
    units = attributes.get("units")
    is_date = isinstance(units, str) and " since " in units
    is_duration = units in _DURATIONS and str(attributes.get("dtype", "")).startswith("timedelta64")
    if is_date or is_duration:
        raise RowsError(
            f"{what} holds {'dates' if is_date else 'durations'} (units {units!r}), which xarray decodes to "
            f"{'datetime64' if is_date else 'timedelta64'}: give an array of numbers, or make these numbers first"
        )


def fill_of_format_2(array: zarr.Array[Any]) -> Any:
    """Return the fill value of an array of format 2 where it stands for what is missing; None where it does not.

    Format 2 has no other place for it; where dimensions are named the store is one of xarray's.
    """
    return array.fill_value if array.metadata.zarr_format == 2 and has_dimensions(array) else None


def missing_numbers(array: zarr.Array[Any], what: str) -> dict[str, list[Any]]:
    """Return the numbers but NaN that each attribute names as missing; attributes without effect are left out."""
    fill = fill_of_format_2(array)
    if fill is None:
        fill = array.attrs.get("_FillValue")
    found = {}
    for name, value in (("missing_value", array.attrs.get("missing_value")), ("_FillValue", fill)):
        if value is None:
            continue
        numbers = [_decoded(one, name, what) for one in np.ravel(np.asarray(value, dtype=object))]
        known = [one for one in numbers if one == one]
        if known or array.dtype.kind not in "iu":
            found[name] = known
    return found


def has_dimensions(array: zarr.Array[Any]) -> bool:
    """Whether an array's dimensions have names, as xarray and netCDF write them."""
    return dimensions(array) is not None or any(str(key).lower().startswith("_nczarr") for key in array.attrs)


def dimensions(array: zarr.Array[Any]) -> tuple[str, ...] | None:
    """Return the names of an array's dimensions; None where it has none."""
    names: Any = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return None if names is None else tuple(map(str, names))


def _decoded(value: Any, name: str, what: str) -> Any:
    """Return a number of an attribute; in format 3 xarray writes the bytes of a float as base64."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
        try:
            return struct.unpack("<d", base64.b64decode(value, validate=True))[0]
        except (ValueError, struct.error):
            pass
    elif isinstance(value, (int, float, np.number, np.bool_)):
        return value
    raise RowsError(f"{what} has the attribute {name}={value!r}, which is no number: it should say what is missing")


def _integer_dtype(dtype: np.dtype[Any], attributes: dict[str, Any]) -> np.dtype[Any]:
    unsigned = str(attributes.get("_Unsigned", "")).lower()
    if dtype.kind == "i" and unsigned == "true":
        return np.dtype(f"u{dtype.itemsize}")
    if dtype.kind == "u" and unsigned == "false":
        return np.dtype(f"i{dtype.itemsize}")
    return dtype.newbyteorder("=")


def as_read(fills: list[Any], dtype: np.dtype[Any], integer: np.dtype[Any]) -> list[Any]:
    """Return what stands for missing values once the stored numbers are read with a sign, or without one."""
    if integer.kind == dtype.kind:
        return fills
    return [_reread(one, dtype, integer) for one in fills]


def _reread(value: Any, dtype: np.dtype[Any], integer: np.dtype[Any]) -> Any:
    limits = np.iinfo(dtype)
    if value == int(value) and limits.min <= value <= limits.max:
        # In this machine's order of bytes, as the numbers are when they are read.
        return np.asarray(int(value), dtype=dtype.newbyteorder("=")).view(integer)[()]
    return value


def _number(attributes: dict[str, Any], name: str, what: str) -> float | None:
    value = attributes.get(name)
    if value is None:
        return None
    try:
        return np.asarray(value, dtype=np.float64).item() if not isinstance(value, (int, float)) else value
    except (TypeError, ValueError) as error:
        raise RowsError(f"{what} has the attribute {name}={value!r}; expected one number") from error


def _with_missing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the smallest dtype that has NaN and all values of a dtype."""
    if dtype.kind == "f":
        return dtype
    return np.dtype(np.float32 if dtype.kind in "iu" and dtype.itemsize <= 2 else np.float64)
