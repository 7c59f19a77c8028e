"""The exit status of a run that a signal ended, as a shell counts it: 128 and the signal's number."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities.exceptions import SIGTERMException


@contextmanager
def exit_status_of_signals() -> Iterator[None]:
    """143 after SIGTERM and 130 after SIGINT, where Lightning ends with 0 and 1; checkpoints are written by then.

    Raises:
        SystemExit: with the status.
    """
    try:
        yield
    except SIGTERMException as error:
        raise SystemExit(128 + signal.SIGTERM) from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise SystemExit(128 + signal.SIGINT) from error
        raise
