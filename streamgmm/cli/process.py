"""The console script: a command in a process of its own, which SIGTERM ends with 143 from its first moment on."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def start() -> None:
    """Run the command that this process was started for."""
    # Before anything is imported, which takes longer than all of this; nothing is open yet.
    signal.signal(signal.SIGTERM, _end)
    from streamgmm.cli.main import main

    try:
        main()
    except SystemExit as ended:
        if type(ended) is not SystemExit:
            # The time was up, or SIGTERM came: threads that wait for something are not waited for.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(int(ended.code or 0))
        raise


def _end(*_: Any) -> None:
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    start()
