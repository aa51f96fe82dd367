"""The format of model files: one file that holds arrays and text, and no code.

It is safetensors: the arrays (float64, as the estimator's attributes name them, without the underscore), and under the
metadata's key "streamgmm" a JSON object with `format_version`, the estimator's parameters and what there is to know of
the fit (`streamgmm.export.header`). Any safetensors reader can open it.

Its `checksum` is the SHA-256 of the arrays and of the entries that it names, so that a file in which a bit has changed
is refused. Files of earlier versions have none, and earlier versions read files that have one. Entries that are not
known are passed over. Of format 2 are those with `clusters`: a
reader that did not know of these would predict something else.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from streamgmm.exceptions import ModelFileError, OutputExistsError
from streamgmm.storage.names import is_url, local_path
from streamgmm.storage.outputs import write_whole
from streamgmm.storage.requests import retry
from streamgmm.storage.urls import open_url

#: The latest that is read.
FORMAT_VERSION = 2
#: All arrays of a file.
ARRAYS = ("weights", "means", "covariances", "precisions_cholesky", "lower_bounds")
#: Bytes of a header, at most: what the format admits.
_LARGEST_HEADER = 100_000_000
_KEY = "streamgmm"
#: Bytes at a file's beginning that say whether it is a model.
_HEAD_BYTES = 200
#: Says in another place that the header has a checksum: damage to its name alone must not do away with it.
_HAS_CHECKSUM = "has_checksum"


def write_model(path: str, header: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Write a header and arrays to a file, which appears whole or not at all.

    Raises
    ------
    OutputError
        If the file can't be written.
    """
    from safetensors.numpy import save as serialise

    header = {**header, _HAS_CHECKSUM: True}
    covered = sorted(header)
    header["checksum"] = {"sha256": _sha256(header, covered, arrays), "of": covered}
    # Of several keys of the metadata the order would be any.
    write_whole(path, serialise(arrays, metadata={_KEY: json.dumps(header, sort_keys=True, allow_nan=False)}))


def check_replaces_a_model(path: str) -> None:
    """Refuse to replace what is there unless it is a model: a mistyped name may be that of somebody's data.

    Raises
    ------
    OutputExistsError
    """
    if is_url(path):
        filesystem, place = open_url(path)
        if not retry(lambda: filesystem.exists(place)):
            return
        head: bytes = retry(lambda: filesystem.cat_file(place, start=0, end=_HEAD_BYTES))
    else:
        place = local_path(path)
        if not os.path.isfile(place):
            return
        with open(place, "rb") as file:
            head = file.read(_HEAD_BYTES)
    # The metadata come first, after eight bytes for their length and an opening brace.
    if b'"__metadata__"' not in head or _KEY.encode() not in head:
        raise OutputExistsError(
            f"{path} exists and is not a streamgmm model: choose another name, or allow it to be replaced (overwrite)"
        )


def read_model(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the header and the arrays of a file.

    Raises
    ------
    ModelFileError
        If the file is not there, is damaged, is no streamgmm model, or is of a later format.
    """
    from safetensors.numpy import load as deserialise

    data = _bytes(path)
    try:
        arrays = deserialise(data)
        length = int.from_bytes(data[:8], "little")
        metadata = _parsed(data[8 : 8 + length]).get("__metadata__", {})
    # The format's own errors, those of JSON, those of dtypes that NumPy does not have.
    except (Exception, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged or no model file: {error}") from error
    if _KEY not in metadata:
        raise ModelFileError(f"{path} is a safetensors file, but holds no streamgmm model")
    try:
        header: dict[str, Any] = _parsed(metadata[_KEY])
        version = header["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged: its header can't be read ({error!r})") from error
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path} is damaged: its format is {version!r}, which is no number of one")
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} has model format {version}, and this version of streamgmm reads up to {FORMAT_VERSION}: upgrade "
            "streamgmm"
        )
    if "checksum" in header or _HAS_CHECKSUM in header:
        _check_checksum(header, arrays, path)
    return header, arrays


def _parsed(text: str | bytes) -> Any:
    """Read JSON, and no more than JSON: without NaN and infinities, and with no name given twice."""

    def constant(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON's")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError(f"a name is given twice among {[name for name, _ in pairs][:20]}")
        return found

    return json.loads(text, parse_constant=constant, object_pairs_hook=unique)


def _sha256(header: dict[str, Any], covered: list[str], arrays: dict[str, Any]) -> str:
    """Return the digest of some of the header's entries, and of the arrays with their names, dtypes and shapes."""
    entries = {name: header[name] for name in covered}
    total = hashlib.sha256(json.dumps(entries, sort_keys=True, allow_nan=False).encode())
    for name in ARRAYS:
        array = arrays[name]
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _check_checksum(header: dict[str, Any], arrays: dict[str, Any], path: str) -> None:
    try:
        given, covered = header["checksum"]["sha256"], header["checksum"]["of"]
        same = given == _sha256(header, covered, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged: its checksum can't be computed ({error!r})") from error
    if not same:
        raise ModelFileError(f"{path} is damaged: its checksum is not that of its arrays and header")


def _bytes(path: str) -> bytes:
    if is_url(path):
        filesystem, place = open_url(path)
        try:
            data: bytes = retry(lambda: filesystem.cat_file(place))
        except FileNotFoundError:
            raise ModelFileError(f"there is no model file {path}") from None
        except OSError as error:
            raise ModelFileError(f"{path} can't be read: {error}") from error
        return data
    path = local_path(path)
    if os.path.isdir(path):
        raise ModelFileError(f"{path} is a folder, and no model file: give the file that save, or fit --output, wrote")
    if not os.path.isfile(path):
        raise ModelFileError(f"there is no model file {path}")
    try:
        with open(path, "rb") as file:
            # Of rows that were given for a model, no more than this is read.
            length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
            if 8 + length > size or length > _LARGEST_HEADER:
                raise ModelFileError(
                    f"{path} is damaged or no model file: it is not what save, or fit --output, writes"
                )
            file.seek(0)
            return file.read()
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error}") from error
