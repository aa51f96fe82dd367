"""Requests to a store of rows: made again where they may pass, and one clear error where they don't."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from streamgmm.exceptions import InputError, ReadError, RowsError
from streamgmm.storage.retries import Retries

Value = TypeVar("Value")

#: Errors that say what is there, and will say so again.
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)


def retry(request: Callable[[], Value]) -> Value:
    """Make a request again where it fails for a reason that may pass.

    Raises
    ------
    OSError
        Also for what the libraries of object stores raise of their own.
    """
    try:
        return Retries.configured().call(request, may_pass=lambda error: not isinstance(error, FINAL))
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class ReadPolicy:
    """How a store is read; small, and sent with every task.

    Attributes
    ----------
    remote : bool
        Whether the store is on another machine, whose answers can be cut short: then what does not decode is asked for
        again, too.
    retries : Retries
    """

    remote: bool
    retries: Retries

    @classmethod
    def of(cls, url: str | None) -> ReadPolicy:
        """Say how what is at a path or a URL is read; None is somewhere else."""
        protocol = "" if url is None or "://" not in url else url.partition("://")[0].rpartition("::")[2]
        remote = url is None or protocol not in ("", "file", "local", "memory")
        return cls(remote, Retries.configured())

    def may_pass(self, error: Exception) -> bool:
        """Say whether it makes sense to try again after an error."""
        if isinstance(error, (*FINAL, MemoryError)) or _is_of_user(error):
            return False
        return self.remote or isinstance(error, OSError)

    def call(self, request: Callable[[], Value], what: str) -> Value:
        """Make a request.

        Raises
        ------
        ReadError
            Where it fails, and fails again where it may pass.
        """
        try:
            return self.retries.call(request, may_pass=self.may_pass)
        except Exception as error:
            raise self.error(error, what) from error

    def error(self, error: Exception, what: str) -> Exception:
        """Make the error for a request that has failed for good."""
        if isinstance(error, (MemoryError, RowsError)) or _is_of_user(error):
            return error
        times = f" ({self.retries.attempts} attempts)" if self.may_pass(error) else ""
        return ReadError(f"{what} can't be read{times}: {str(error) or type(error).__name__}")


def _is_of_user(error: Exception) -> bool:
    """Whether an error is of what was asked, not of what is there: no library opens such a URL, say."""
    return isinstance(error, InputError) and not isinstance(error, RowsError)


def unseen_error(what: str) -> ReadError:
    """Make the error for a store that a process comes to read and does not find."""
    return ReadError(
        f"{what} is not there for the process that came to read it, on {socket.gethostname()}: it has gone, or that "
        "process can't see it; processes on other machines need the store under the same name, on storage they share"
    )
