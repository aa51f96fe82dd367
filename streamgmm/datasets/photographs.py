"""Patches of photographs as rows: the data of the demo, of an example and of the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamgmm.exceptions import InputError

#: Height and width of a patch, in pixels.
PATCH_SHAPE = (8, 8)


def photographs() -> list[npt.NDArray[np.float32]]:
    """Return the two photographs that scikit-learn ships, as luminance in [0, 1], each of shape (427, 640)."""
    from sklearn.datasets import load_sample_images

    try:
        images = load_sample_images().images
    except ImportError:
        raise InputError("reading the photographs needs Pillow: pip install 'streamgmm[plot]'") from None
    # ITU-R BT.601 luma
    return [(image @ np.array([0.299, 0.587, 0.114]) / 255.0).astype(np.float32) for image in images]


def patches(shape: tuple[int, int] = PATCH_SHAPE, *, step: int = 1) -> Iterator[npt.NDArray[np.float32]]:
    """Give overlapping patches of the photographs, some at a time: arrays of shape (n, height * width).

    Parameters
    ----------
    shape : tuple of (int, int)
        Height and width of a patch, in pixels.
    step : int, default=1
        Pixels from one patch to the next, down and across.
    """
    for image in photographs():
        windows = np.lib.stride_tricks.sliding_window_view(image, shape)[::step, ::step]
        for strip in np.array_split(windows, 10):
            yield strip.reshape(-1, shape[0] * shape[1])


def write_patches(path: str | Path, shape: tuple[int, int] = PATCH_SHAPE, *, step: int = 1) -> int:
    """Write patches to a Zarr array at a path; return their number."""
    import zarr

    n_rows = sum(len(strip) for strip in patches(shape, step=step))
    n_features = shape[0] * shape[1]
    array = zarr.create_array(Path(path), shape=(n_rows, n_features), chunks=(65_536, n_features), dtype=np.float32)
    start = 0
    buffer: list[npt.NDArray[np.float32]] = []
    for strip in patches(shape, step=step):
        buffer.append(strip)
        # Whole chunks at a time: a chunk that is written in two parts is compressed twice.
        held = np.concatenate(buffer)
        whole = len(held) // array.chunks[0] * array.chunks[0]
        array[start : start + whole] = held[:whole]
        buffer, start = [held[whole:]], start + whole
    array[start:] = buffer[0]
    return n_rows
