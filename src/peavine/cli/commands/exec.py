"""Execute a command in a container."""

from __future__ import annotations

import sys

from peavine.cli.failures import CliError
from peavine.cli.flags import FILES, Parsed, boolean, duration, string
from peavine.cli.resources import file_targets, has_files
from peavine.cli.session import Session
from peavine.cli.streaming import default_container, exchange, pod_of

CONCURRENT = True
FLAGS = (
    *FILES,
    string("container", "c", help="Container name."),
    boolean("stdin", "i", help="Pass stdin to the container"),
    boolean("tty", "t", help="Stdin is a TTY"),
    boolean("quiet", "q", help="Only print output from the remote session"),
    duration("pod-running-timeout", default=60.0, help="The length of time to wait until at least one pod is running."),
)


async def run(session: Session, flags: Parsed) -> int:
    words, command = flags.arguments, flags.after_dashes
    if has_files(flags):
        pod = await anext(file_targets(session, flags).__aiter__())
    else:
        if not words:
            raise CliError("pod, type/name or --filename must be specified")
        if command is None and len(words) > 1:
            session.warn("error: exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead")
            session.warn("See 'kubectl exec -h' for help and examples")
            return 1
        pod = await pod_of(session, flags, words[0])
    if not command:
        raise CliError("you must specify at least one command for the container")
    live = await session.get(pod.path)
    phase = (live.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        raise CliError(f"cannot exec into a container in a completed pod; current phase is {phase}")
    container = default_container(live, flags["container"], session)
    tty = flags["tty"]
    if tty and not (flags["stdin"] and sys.stdin.isatty()):
        if flags["stdin"]:
            session.warn("Unable to use a TTY - input is not a terminal or the right kind of file")
        tty = False
    query = [("command", word) for word in command] + [("container", container), ("stdout", "true")]
    query += [("stdin", "true")] if flags["stdin"] else []
    query += [("tty", "true")] if tty else [("stderr", "true")]
    code = await exchange(session, pod.path + "/exec", query, stdin=flags["stdin"], tty=tty)
    if code:
        session.warn(f"command terminated with exit code {code}")
    return code
