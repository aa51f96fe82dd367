"""One file of a checkpoint: arrays and text, no code, and a checksum in its name."""

from __future__ import annotations

import hashlib
import json
import warnings
from typing import Any

import numpy as np

from streamgmm._version import __version__
from streamgmm.exceptions import CheckpointError, CheckpointWarning
from streamgmm.serialization import decode, encode
from streamgmm.storage.folders import Folder

FORMAT_VERSION = 2
_KEY = "streamgmm-checkpoint"


def encode_file(header: dict[str, Any], values: Any) -> bytes:
    """Return what a file of some values holds, with a header that JSON can hold."""
    from safetensors.numpy import save

    tree, arrays = encode(values)
    whole = {"format_version": FORMAT_VERSION, "streamgmm_version": __version__, **header, "values": tree}
    # (`ascontiguousarray` would make a vector of a single number.)
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    body: bytes = save(contiguous, metadata={_KEY: json.dumps(whole, sort_keys=True)})
    return body


def read_file(folder: Folder, name: str) -> dict[str, Any] | None:
    """Read a file: its header, and the values under "values"; None, and a warning, where it is damaged.

    Raises
    ------
    CheckpointError
        If it is of a later format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        body = folder.read(name)
        if f"-{digest(body)}." not in name:
            raise ValueError("its checksum is wrong")
        length = int.from_bytes(body[:8], "little")
        header = json.loads(json.loads(body[8 : 8 + length])["__metadata__"][_KEY])
        version = int(header["format_version"])
        if version > FORMAT_VERSION:
            raise CheckpointError(
                f"{folder.url}/{name} has checkpoint format {version}, and this version of streamgmm reads up to "
                f"{FORMAT_VERSION}: upgrade streamgmm, or begin anew with resume='never'"
            )
        if version < FORMAT_VERSION:
            raise CheckpointError(
                f"{folder.url}/{name} has checkpoint format {version}, of an earlier version of streamgmm, and this "
                f"one goes on from format {FORMAT_VERSION}: end that fit with the earlier version, choose another "
                "folder, or begin anew with resume='never'"
            )
        return {**header, "values": decode(header["values"], load(body))}
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, OSError) and not folder.is_local:
            # A store that can't be reached is not an empty one.
            raise
        if isinstance(error, CheckpointError):
            raise
        warn(f"{folder.url}/{name} is damaged ({error}) and is left out; the fit goes on from what was kept before")
        return None


def warn(message: str) -> None:
    """Warn of what is wrong with a checkpoint."""
    warnings.warn(message, CheckpointWarning, stacklevel=8)


def digest(body: bytes) -> str:
    """Return the checksum that a file's name carries."""
    return hashlib.sha256(body).hexdigest()[:16]
