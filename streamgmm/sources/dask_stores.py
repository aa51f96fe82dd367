"""Zarr arrays in the graph of a Dask collection: whether the process that computes a chunk sees them.

Dask sends an array with its graph, and a worker reads what it finds where that points to. Where it finds nothing, Zarr
gives fill values. So the arrays are looked for in the graph, and each process compares them as it does those that it
reads itself.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from streamgmm.sources.base import Block
from streamgmm.sources.dask_arrays import Chunk, ChunkReader, DaskRows
from streamgmm.storage.requests import ReadPolicy
from streamgmm.storage.zarr_places import Place, PlacedArray

#: What libraries have around an array, xarray six of them, at most.
_MOST_AROUND = 20


@dataclass(frozen=True)
class SeeingReader:
    """Reads chunks with another reader, and looks whether the stores are there that they come from.

    Attributes
    ----------
    reader : ChunkReader
    stores : tuple of PlacedArray
    """

    reader: ChunkReader
    stores: tuple[PlacedArray, ...]

    def block(self, columns: list[Any], sample_weight: tuple[Any, ...], chunk: Chunk) -> Block:
        for store in self.stores:
            # Opened and compared once by each process, as it came to it.
            _ = store.array
        block = self.reader.block(columns, sample_weight, chunk)
        constant = bool(len(block.x) and (block.x[[0, -1]] == block.x[0]).all() and (block.x == block.x[0]).all())
        for store in self.stores:
            # A look at one file costs nothing; elsewhere it is a request, for rows like those of chunks not there.
            if constant or store.place.kind == "folder":
                store.check_there()
        return block


def see_stores(rows: DaskRows) -> DaskRows:
    """Return rows whose tasks look whether the stores are there from which Dask reads."""
    found = _stores_in(rows.array)
    if rows.sample_weight is not None:
        found |= _stores_in(rows.sample_weight)
    return rows.read_by(SeeingReader(rows.reader, tuple(found.values()))) if found else rows


def _stores_in(collection: Any) -> dict[str, PlacedArray]:
    """Return the Zarr arrays on which a collection's graph says that it is built, by their names."""
    if "zarr" not in sys.modules:
        return {}
    found: dict[str, PlacedArray] = {}
    for layer in getattr(collection.dask, "layers", {}).values():
        # Dask has what it takes chunks from in a layer by itself; it would be long to go through all others.
        if type(layer).__name__ == "MaterializedLayer" and len(layer) == 1:
            (value,) = layer.values()
            array = _zarr_array_in(value)
            if array is not None and type(array.store).__name__ != "MemoryStore":
                name = str(array.store_path)
                what = f"the Zarr array {name}, from which Dask reads,"
                found[name] = PlacedArray(array, Place.as_it_is(array), what, ReadPolicy.of(name))
    return found


def _zarr_array_in(value: Any) -> Any:
    import zarr

    for _ in range(_MOST_AROUND):
        if value is None or isinstance(value, zarr.Array):
            return value
        # By the names that Dask's own nodes and xarray's wrappers have for what is inside.
        value = next((getattr(value, name) for name in ("value", "array", "_array") if hasattr(value, name)), None)
    return None
