"""How a command says what has ended it: one line, or one JSON object, and the exit code."""

from __future__ import annotations

import sys
from typing import NoReturn

from streamgmm.cli.options import name_options
from streamgmm.jobs.exit_codes import ExitCode, code_of
from streamgmm.jobs.log import Log


def exit_with(error: Exception, log: Log) -> NoReturn:
    """Say what has ended a command, its options named as they are on the command line, and exit."""
    code = code_of(error) or ExitCode.BAD_DATA
    message = name_options(" ".join(str(error).split()))
    log.error(message or type(error).__name__, exit_code=int(code))
    sys.exit(int(code))
