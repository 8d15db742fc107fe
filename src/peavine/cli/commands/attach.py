"""Attach to a process that is already running inside an existing container."""

from __future__ import annotations

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, boolean, duration, string
from peavine.cli.session import Session
from peavine.cli.streaming import attach_pod, default_container, pod_of

CONCURRENT = True
FLAGS = (
    string("container", "c", help="Container name."),
    boolean("stdin", "i", help="Pass stdin to the container"),
    boolean("tty", "t", help="Stdin is a TTY"),
    boolean("quiet", "q", help="Only print output from the remote session"),
    duration("pod-running-timeout", default=60.0, help="The length of time to wait until at least one pod is running."),
)


async def run(session: Session, flags: Parsed) -> int:
    if not flags.arguments:
        raise CliError("at least 1 argument is required for attach")
    pod = await pod_of(session, flags, flags.arguments[0])
    live = await session.get(pod.path)
    container = default_container(live, flags["container"], session)
    if flags["stdin"] and not flags["quiet"]:
        session.warn("If you don't see a command prompt, try pressing enter.")
    return await attach_pod(session, pod, container, stdin=flags["stdin"], tty=flags["tty"])
