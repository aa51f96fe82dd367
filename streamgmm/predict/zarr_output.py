"""Results as arrays of a Zarr group, with named dimensions: xarray opens it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import InputError
from streamgmm.predict.outputs import CHUNK_BYTES, Options, Piece, ScoreOutput, parse_said
from streamgmm.sources.kept import ArraySpec
from streamgmm.storage.names import is_url, local_path, location, naming_output

COMPRESSIONS = ("zstd", "gzip", "lz4", "none")
#: Under which name a group says by what it was made.
_JOB = "streamgmm_job"
#: Under which name it says of how many rows what.
_SAID = "streamgmm_rows"
#: Bytes that a text is taken to have where chunks are chosen.
_TEXT_BYTES = 32


class ZarrOutput(ScoreOutput):
    """Arrays of one group of Zarr format 3.

    Parts need not end where chunks do, and two tasks that wrote into one chunk at once would lose results. So a task
    writes the chunks that lie inside of its part, and lays aside what it has of the others; these are put together when
    all parts are there.
    """

    needs_lengths = True

    @staticmethod
    def check_options(options: Options, keep: Sequence[Hashable] | str) -> None:
        if options.compression not in (None, *COMPRESSIONS):
            raise InputError(
                f"compression of Zarr must be one of {', '.join(COMPRESSIONS)}; got {options.compression!r}"
            )
        if options.partition_by:
            raise InputError("partition_by is for Parquet: write to a name that ends in .parquet")
        if options.row_group_rows is not None:
            raise InputError("row_group_rows is for Parquet: write to a name that ends in .parquet")

    def check(self) -> None:
        for name in self._specs:
            if name.strip(".") == "" or "/" in name or name == "zarr.json":
                raise InputError(f"keep: {name!r} is no name of an array in a Zarr group: leave it out")

    @cached_property
    def _specs(self) -> dict[str, ArraySpec]:
        """The arrays by their names: those that are kept, then the results."""
        specs = {} if self.kept is None else self.kept.as_specs()
        for column in self.scores.values():
            trailing = () if column.n_columns is None else (column.n_columns,)
            dims = () if column.n_columns is None else (column.of,)
            specs[self.options.prefix + column.name] = ArraySpec(
                column.dtype, trailing, dims, {"long_name": column.long_name}
            )
        return _with_sizes_apart(specs)

    def _chunk_rows(self, part_rows: int) -> int:
        """Choose chunks of which parts are multiples, where that can be."""
        widest = max(_row_bytes(spec) for spec in self._specs.values())
        parts = max(1, -(-part_rows // max(1, CHUNK_BYTES // widest)))
        even = next((p for p in range(parts, 8 * parts + 1) if part_rows % p == 0), parts)
        # Rounded up: a part is then so many chunks, with no small one left over.
        return max(1, -(-part_rows // even))

    def find_job(self) -> str | None:
        import zarr

        try:
            place = self.name if is_url(self.name) else Path(local_path(self.name))
            found = zarr.open_group(place, mode="r").attrs.get(_JOB)
        except (OSError, ValueError, KeyError):
            return None
        return found if isinstance(found, str) else None

    def create(self, n_rows: int | None, part_rows: int) -> None:
        import zarr

        assert n_rows is not None  # `needs_lengths`
        chunk = self._chunk_rows(part_rows)
        rows = self._name_of_rows()
        with naming_output(self.name), _quiet():
            said = {_JOB: self.job} if self.job else {}
            group = zarr.create_group(location(self.path), zarr_format=3, attributes=said)
            for name, spec in self._specs.items():
                group.create_array(
                    name,
                    shape=(n_rows, *spec.shape),
                    dtype=spec.dtype,
                    chunks=(chunk, *spec.shape),
                    compressors=self._compressors(),
                    fill_value=_fill_value(spec),
                    dimension_names=(rows, *spec.dims),
                    attributes=dict(spec.attributes),
                )

    def _name_of_rows(self) -> str:
        results = {self.options.prefix + column.name for column in self.scores.values()}
        taken = {dim for spec in self._specs.values() for dim in spec.dims} | results
        names = (self.row_dimension, "row", "rows", "observation")
        return next(name for name in names if name is not None and name not in taken)

    def _compressors(self) -> Any:
        import zarr.codecs as codecs

        chosen: dict[str, Any] = {
            "zstd": codecs.ZstdCodec,
            "gzip": codecs.GzipCodec,
            "lz4": lambda: codecs.BloscCodec(cname="lz4"),
        }
        if self.options.compression is None:
            return "auto"
        return None if self.options.compression == "none" else chosen[self.options.compression]()

    def write(self, part: str, start: int, pieces: Iterable[Piece], said: Callable[[], Mapping[str, int]]) -> None:
        arrays = self._open()
        chunk = self._rows_of_chunk(arrays)
        n_rows = next(iter(arrays.values())).shape[0]
        at = start
        for step in _in_steps(map(self._columns, pieces), -start % chunk, chunk):
            with naming_output(self.name):
                if at % chunk == 0 and (len(step) == chunk or at + len(step) == n_rows):
                    for name, array in arrays.items():
                        array[at : at + len(step)] = step.values[name]
                else:
                    self._lay_aside(at, step)
            at += len(step)

    def find_said(self) -> dict[str, int]:
        import zarr

        place = self.name if is_url(self.name) else Path(local_path(self.name))
        return parse_said(zarr.open_group(place, mode="r").attrs.get(_SAID))

    def complete(self, parts: Sequence[tuple[int, int]], said: Mapping[str, int]) -> None:
        arrays = self._open()
        chunk = self._rows_of_chunk(arrays)
        n_rows = next(iter(arrays.values())).shape[0]
        laid_aside: dict[int, list[int]] = {}
        for start, n in parts:
            for at, stop in _steps(start, n, chunk):
                if at % chunk or stop - at < min(chunk, n_rows - at):
                    laid_aside.setdefault(at // chunk, []).append(at)
        for number, starts in laid_aside.items():
            with naming_output(self.name):
                step = _Columns.join([self._fetch(at) for at in starts])
                for name, array in arrays.items():
                    array[number * chunk : number * chunk + len(step)] = step.values[name]
        self._say(said)

    def _say(self, said: Mapping[str, int]) -> None:
        import zarr

        with naming_output(self.name), _quiet():
            group = zarr.open_group(location(self.path), mode="r+", use_consolidated=False)
            group.attrs[_SAID] = dict(said)
            # What xarray looks for first, and without which it warns. Zarr warns that its specification does not have
            # it yet; readers that don't know it pass over it.
            zarr.consolidate_metadata(location(self.path), zarr_format=3)

    def _open(self) -> dict[str, Any]:
        import zarr

        with naming_output(self.name):
            group = zarr.open_group(location(self.path), mode="r+", use_consolidated=False)
            return {name: group[name] for name in self._specs}

    @staticmethod
    def _rows_of_chunk(arrays: dict[str, Any]) -> int:
        (rows,) = {array.chunks[0] for array in arrays.values()}
        return int(rows)

    def _edge(self, at: int) -> str:
        """Name the place for the rows of a chunk that one part has, beside the data."""
        return f"{self.path.rpartition('/')[0]}/edges/{at:020d}"

    def _lay_aside(self, at: int, step: _Columns) -> None:
        import zarr

        # Again, where an earlier attempt was stopped.
        group = zarr.open_group(location(self._edge(at)), mode="w", zarr_format=3)
        for name, values in step.values.items():
            group.create_array(name, data=values, chunks=values.shape)

    def _fetch(self, at: int) -> _Columns:
        import zarr

        group = zarr.open_group(location(self._edge(at)), mode="r")
        arrays: dict[str, Any] = {name: group[name] for name in self._specs}
        return _Columns({name: array[:] for name, array in arrays.items()})

    def _columns(self, piece: Piece) -> _Columns:
        values = {} if piece.kept is None else piece.kept.as_arrays()
        for name, column in self.scores.items():
            values[self.options.prefix + column.name] = piece.scores[name]
        return _Columns(values)


class _Columns:
    """Values of several arrays for the same rows."""

    def __init__(self, values: dict[str, npt.NDArray[Any]]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def __getitem__(self, rows: slice) -> _Columns:
        return _Columns({name: one[rows] for name, one in self.values.items()})

    @staticmethod
    def join(parts: list[_Columns]) -> _Columns:
        if len(parts) == 1:
            return parts[0]
        return _Columns({name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values})


def _steps(start: int, n_rows: int, chunk: int) -> Iterator[tuple[int, int]]:
    """Give the first row and the end of what a part has of each chunk."""
    at, stop = start, start + n_rows
    while at < stop:
        end = min(stop, (at // chunk + 1) * chunk)
        yield at, end
        at = end


def _in_steps(parts: Iterable[_Columns], first: int, n_rows: int) -> Iterator[_Columns]:
    """Give the rows of several parts so many at a time, of the first step others, and what is left in the end."""
    held: list[_Columns] = []
    n_held, wanted = 0, first or n_rows
    for part in parts:
        start = 0
        while start < len(part):
            held.append(part[start : start + wanted - n_held])
            start += len(held[-1])
            n_held += len(held[-1])
            if n_held == wanted:
                yield _Columns.join(held)
                held, n_held, wanted = [], 0, n_rows
    if held:
        yield _Columns.join(held)


def _with_sizes_apart(specs: dict[str, ArraySpec]) -> dict[str, ArraySpec]:
    """Rename dimensions of arrays that are kept where another of another size has the name, which xarray refuses."""
    sizes: dict[str, int] = {}
    # Those of the results, which come last, have their own names.
    for spec in reversed(specs.values()):
        for dim, size in zip(spec.dims, spec.shape, strict=True):
            sizes.setdefault(dim, size)
    found = {}
    for name, spec in specs.items():
        dims = tuple(
            dim if sizes[dim] == size else f"{name}_{dim}" for dim, size in zip(spec.dims, spec.shape, strict=True)
        )
        found[name] = replace(spec, dims=dims)
    return found


def _row_bytes(spec: ArraySpec) -> int:
    itemsize = _TEXT_BYTES if spec.dtype.kind in "TO" else spec.dtype.itemsize
    return max(1, itemsize * int(np.prod(spec.shape, dtype=np.int64)))


def _fill_value(spec: ArraySpec) -> Any:
    """Return the fill value of an array, or what Zarr takes where there is none."""
    from zarr.core.array import DEFAULT_FILL_VALUE

    return DEFAULT_FILL_VALUE if spec.fill_value is None else spec.fill_value


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what Zarr warns of: dtypes and metadata that its specification does not have yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
