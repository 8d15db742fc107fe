"""Logging of a process: one line a record, to stderr, in klog's order (level, time, source, message)."""

from __future__ import annotations

import logging
import sys
import time

_LETTERS = {logging.DEBUG: "D", logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E", logging.CRITICAL: "F"}


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%m%d %H:%M:%S", time.gmtime(record.created))
        line = (
            f"{_LETTERS.get(record.levelno, 'I')}{stamp}.{int(record.msecs * 1000):06d} "
            f"{record.name.removeprefix('peavine.')}:{record.lineno}] {record.getMessage()}"
        )
        return line + "\n" + self.formatException(record.exc_info) if record.exc_info else line


def setup(verbosity: int = 2) -> None:
    """Send records to stderr: warnings at 0 and 1, information from 2, debug from 4 (klog's `-v`)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if verbosity < 2 else logging.INFO if verbosity < 4 else logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
