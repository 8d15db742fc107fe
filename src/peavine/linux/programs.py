"""Running the kernel's own programs (nft, iptables-restore, conntrack): bytes in, text out, errors with their words."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

# iptables-restore of a very large ruleset takes minutes; past this something is stuck.
program_seconds_max = 600


class ProgramError(OSError):
    """A program ended with an error; the text is the program's own."""


def run(arguments: Sequence[str], text: str | None = None, *, check: bool = True) -> str:
    """The standard output of a program that was given `text`. Raises ProgramError if it fails (and `check`)."""
    program = shutil.which(arguments[0], path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise ProgramError(f"{arguments[0]} is not installed")
    try:
        done = subprocess.run(
            [program, *arguments[1:]],
            input=text.encode() if text is not None else None,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            timeout=program_seconds_max,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{' '.join(arguments)}: no end after {program_seconds_max} s") from error
    if check and done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()
        raise ProgramError(f"{' '.join(arguments)}: {words or f'exit status {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def available(name: str) -> bool:
    return shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin") is not None
