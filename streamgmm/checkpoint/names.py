"""The names of a checkpoint's files."""

from __future__ import annotations

import re

from streamgmm.storage.lock import LOCK

_NAME = re.compile(r"(start|(pass|part)-\d{6})-[0-9a-f]{16}\.safetensors")
#: What a process that was killed while it wrote has left behind.
_PARTIAL = re.compile(rf"\.({_NAME.pattern}|{re.escape(LOCK)})-[0-9a-f]{{8}}\.partial")
#: Files of the first format, which called passes readings.
_FIRST_FORMAT = re.compile(r"reading-\d{6}-[0-9a-f]{16}\.safetensors")


def is_checkpoint(name: str) -> bool:
    """Whether a name is that of a checkpoint's file."""
    return _NAME.fullmatch(name) is not None


def is_partial(name: str) -> bool:
    """Whether a name is that of a file that was not written to its end."""
    return _PARTIAL.fullmatch(name) is not None


def is_of_first_format(name: str) -> bool:
    """Whether a name is one that versions before 0.2 gave."""
    return _FIRST_FORMAT.fullmatch(name) is not None


def name_pass(number: int) -> str:
    """Return how the name of what follows from a pass begins."""
    return f"pass-{number:06d}"


def name_part(number: int) -> str:
    """Return how the name of some parts of a pass begins."""
    return f"part-{number:06d}"
