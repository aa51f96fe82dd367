"""Arrays of a Zarr group that go with the rows: as they are stored, or as the values that they stand for."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import RowsError
from streamgmm.sources.kept import ArraySpec
from streamgmm.sources.zarr_packing import (
    Packing,
    as_read,
    dimensions,
    fill_of_format_2,
    missing_numbers,
    packing_of,
)
from streamgmm.sources.zarr_times import OF_JULIUS, TimeCoding, absent_times
from streamgmm.storage.fingerprint import describe_files, digest, digest_of_files
from streamgmm.storage.names import location
from streamgmm.storage.requests import ReadPolicy
from streamgmm.storage.zarr_places import Place, PlacedArray

if TYPE_CHECKING:
    import pyarrow as pa
    import zarr


@dataclass(frozen=True)
class StoredArray:
    """An array whose first dimension are the rows.

    Attributes
    ----------
    spec : ArraySpec
        As it is stored.
    packing : Packing, or None
        How its numbers are unpacked.
    times : TimeCoding or None
        What its numbers count, where they are times.
    missing : tuple of number
        What stands for a missing value, where the values are times or whole numbers.
    obstacle : str
        Why its values can't be told; "" where they can.
    """

    name: str
    spec: ArraySpec
    packing: Packing | None = None
    times: TimeCoding | None = None
    missing: tuple[Any, ...] = ()
    obstacle: str = ""

    @classmethod
    def of(cls, name: str, array: zarr.Array[Any], what: str) -> StoredArray:
        """Say what an array is."""
        dims = dimensions(array) or ("row", *(f"{name.replace('/', '_')}_{axis}" for axis in range(1, array.ndim)))
        attributes = {key: value for key, value in array.attrs.items() if key != "_ARRAY_DIMENSIONS"}
        dtype = np.dtype(array.dtype)
        if dtype.kind in "iuf" and (fill := fill_of_format_2(array)) is not None:
            # Which format 3, in which it is written, says in an attribute.
            attributes["_FillValue"] = _encoded(fill)
        spec = ArraySpec(dtype, array.shape[1:], tuple(dims[1:]), attributes, array.fill_value)
        if dtype.kind not in "iuf":
            return cls(name, spec)
        times = TimeCoding.of(array)
        if times is not None and {"scale_factor", "add_offset"} & set(attributes):
            return cls(name, spec, obstacle=f"{what} holds times that are scaled or shifted")
        try:
            if times is not None and not times.is_told:
                return cls(name, spec, obstacle=f"{what} {OF_JULIUS}")
            packing = None if times is not None else packing_of(array, what)
            if times is None and (packing is None or not packing.is_whole):
                return cls(name, spec, packing)
            fills = missing_numbers(array, what)
            missing = tuple(value for one in fills.values() for value in one)
            if packing is not None:
                missing = tuple(as_read(list(missing), dtype, packing.integer))
        except RowsError as error:
            return cls(name, spec, obstacle=str(error))
        return cls(name, spec, packing, times, missing)

    def column(self, stored: npt.NDArray[Any], arrow_type: pa.DataType) -> pa.Array:
        """Return the values that stored numbers or texts stand for, all in one dimension; null where one is missing."""
        import pyarrow as pa

        stored = stored.reshape(-1)
        if self.times is not None:
            missing = self._stands_for_missing(stored) | absent_times(stored)
            return pa.array(self.times.decode(stored, missing, self.name), type=arrow_type, mask=missing)
        if self.packing is not None and self.packing.is_whole:
            whole = self.packing.reread(stored)
            return pa.array(whole, type=arrow_type, mask=self._stands_for_missing(whole))
        if self.packing is not None:
            stored = self.packing.unpack(stored)
        return pa.array(stored.astype(object) if pa.types.is_string(arrow_type) else stored, type=arrow_type)

    def _stands_for_missing(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        found = np.zeros(stored.shape, dtype=np.bool_)
        limits = np.iinfo(stored.dtype) if stored.dtype.kind in "iu" else None
        for one in self.missing:
            if limits is None or (one == int(one) and limits.min <= one <= limits.max):
                found |= stored == stored.dtype.type(one)
        return found

    def arrow_type(self) -> pa.DataType:
        """Return the type that the values have as a column of a table.

        Raises
        ------
        RowsError
            If there is none.
        """
        import pyarrow as pa

        if self.obstacle:
            raise RowsError(
                f"keep: {self.obstacle}; write to a name that ends in .zarr, where it is kept as it is stored"
            )
        dtype = self.spec.dtype
        if self.packing is not None:
            # Whole numbers stay whole: unlike an array, a column can lack some.
            dtype = self.packing.integer if self.packing.is_whole else self.packing.dtype
        if self.times is not None:
            dtype = np.dtype(f"datetime64[{self.times.told_in}]")
        if dtype.kind in "TUO":
            one = pa.string()
        else:
            try:
                one = pa.from_numpy_dtype(dtype)
            except pa.ArrowException:
                raise RowsError(
                    f"keep: the array {self.name!r} has dtype {dtype}, for which a table has no type: write to a name "
                    "that ends in .zarr, or leave it out"
                ) from None
        if len(self.spec.shape) > 1:
            raise RowsError(
                f"keep: the array {self.name!r} has {1 + len(self.spec.shape)} dimensions, and a column of a table "
                "has one, or lists: write to a name that ends in .zarr, or leave it out"
            )
        return pa.list_(one, self.spec.shape[0]) if self.spec.shape else one


@dataclass(frozen=True)
class ArrayLayout:
    """Arrays that go with the rows."""

    arrays: Mapping[str, StoredArray]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.arrays)

    def as_schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema([(name, array.arrow_type()) for name, array in self.arrays.items()])

    def as_specs(self) -> dict[str, ArraySpec]:
        return {name: array.spec for name, array in self.arrays.items()}


@dataclass(frozen=True)
class KeptArrays:
    """Values of arrays for some rows, as they are stored."""

    layout: ArrayLayout
    values: Mapping[str, npt.NDArray[Any]]

    def slice(self, start: int, n_rows: int) -> KeptArrays:
        return KeptArrays(self.layout, {name: one[start : start + n_rows] for name, one in self.values.items()})

    def as_table(self) -> pa.Table:
        import pyarrow as pa

        schema = self.layout.as_schema()
        columns = []
        for of_table in schema:
            values = self.values[of_table.name]
            element = of_table.type.value_type if values.ndim > 1 else of_table.type
            column = self.layout.arrays[of_table.name].column(values, element)
            if values.ndim > 1:
                column = pa.FixedSizeListArray.from_arrays(column, values.shape[1])
            columns.append(column)
        return pa.table(columns, schema=schema)

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        return dict(self.values)


class ArraysBeside:
    """The arrays of a group that go with the rows of one of them, and how they are read.

    Parameters
    ----------
    rows : zarr.Array
    keep : sequence of str, or "all"
        Names in the group that the array of the rows is in.
    description : str
        The rows, as errors name them.
    opened : str, or None
        The URL that the store was opened by.
    policy : ReadPolicy

    Raises
    ------
    RowsError
        If there is no such array, or it has other rows.
    """

    def __init__(
        self, rows: zarr.Array[Any], keep: Sequence[str] | str, description: str, opened: str | None, policy: ReadPolicy
    ) -> None:
        import zarr

        group, own, opened = _group_around(rows, opened)
        members = {} if group is None else {name: one for name, one in group.members() if isinstance(one, zarr.Array)}
        members.pop(own, None)
        n_rows = rows.shape[0]
        fitting = {name: one for name, one in sorted(members.items()) if one.shape[:1] == (n_rows,)}
        if keep == "all":
            chosen = dict(fitting)
        else:
            chosen = {}
            for name in keep:
                if name not in members:
                    there = f"it has {', '.join(map(repr, fitting))}" if fitting else "there is none"
                    raise RowsError(f"keep: {description} has no array {name!r} of {n_rows} rows beside it; {there}")
                if name not in fitting:
                    raise RowsError(
                        f"keep: the array {name!r} beside {description} has shape {members[name].shape}; expected "
                        f"{n_rows} rows in its first dimension"
                    )
                chosen[name] = members[name]
        self.layout = ArrayLayout({n: StoredArray.of(n, one, f"the array {n!r}") for n, one in chosen.items()})
        self._policy = policy
        self._placed = {
            name: PlacedArray(one, Place.of(one, opened), f"the array {name!r} beside {description}", policy)
            for name, one in chosen.items()
        }

    @property
    def row_bytes(self) -> int:
        """Bytes of what goes with a row, as it is stored; texts are taken for short ones."""
        return sum(
            int(np.prod(one.spec.shape, dtype=np.int64)) * max(one.spec.dtype.itemsize, 1)
            for one in self.layout.arrays.values()
        )

    def version(self) -> str:
        """Return what changes when the arrays do."""
        found = []
        for placed in self._placed.values():
            array = placed.array
            root = getattr(array.store, "root", None)
            if root is not None:
                found.append(digest_of_files([f"{root}/{array.store_path.path}".rstrip("/")]))
            else:
                found += [str(array.store_path), str(array.metadata)]
                filesystem, path = getattr(array.store, "fs", None), getattr(array.store, "path", None)
                if filesystem is not None and path is not None:
                    inside = f"{path}/{array.store_path.path}".rstrip("/")
                    found += describe_files(getattr(filesystem, "sync_fs", None) or _waiting(filesystem), inside)
        return digest(found)

    def read(self, start: int, stop: int) -> KeptArrays:
        """Read what goes with some rows."""
        values = {}
        for name, placed in self._placed.items():
            array = placed.array
            what = f"{placed.description}: rows {start} to {stop - 1}"
            values[name] = self._policy.call(partial(_read, array, start, stop), what)
            placed.check_there()
        return KeptArrays(self.layout, values)


def _group_around(array: zarr.Array[Any], opened: str | None) -> tuple[zarr.Group | None, str, str | None]:
    """Return the group that an array is in, its name there, and the URL or path by which the store was opened."""
    import zarr

    folder, _, own = array.store_path.path.rpartition("/")
    if own:
        return zarr.open_group(array.store, path=folder or None, mode="r"), own, opened
    # The array is all of what was opened, by its own path.
    root = getattr(array.store, "root", None)
    path = str(root) if opened is None and root is not None else opened
    if path is None or type(array.store).__name__ == "ZipStore":
        return None, own, opened
    parent, _, own = path.rstrip("/").rpartition("/")
    try:
        return zarr.open_group(location(parent), mode="r"), own, parent
    except (FileNotFoundError, ValueError, KeyError):
        return None, own, opened


def _waiting(filesystem: Any) -> Any:
    """Return the same file system for calls that wait for their answer: Zarr's are asynchronous."""
    return type(filesystem)(**{k: v for k, v in filesystem.storage_options.items() if k != "asynchronous"})


def _read(array: zarr.Array[Any], start: int, stop: int) -> npt.NDArray[Any]:
    return np.asarray(array[start:stop])


def _encoded(fill: Any) -> Any:
    """Return a missing value as an attribute of format 3: of a float xarray writes the bytes."""
    value = np.asarray(fill)[()]
    return int(value) if value.dtype.kind in "iu" else base64.b64encode(struct.pack("<d", float(value))).decode()
