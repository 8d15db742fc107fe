"""What `up` and `join` have in common: the runtime that this machine allows, its supervisor, and the wait for nodes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from peavine.client import Client
from peavine.client.transport import Unreachable
from peavine.cmd.cluster import Cluster, Host
from peavine.cmd.supervise import privately
from peavine.machinery.errors import ApiError


def choose_runtime(wanted: str, notes: list[str]) -> str:
    """containerd or simulated. `wanted` may be auto; why it is not containerd is noted. Raises ValueError."""
    lacking = ""
    if os.geteuid() != 0:
        lacking = "no root"
    elif missing := [name for name in ("containerd", "runc", "nft") if shutil.which(name) is None]:
        lacking = f"{', '.join(missing)} not installed"
    if wanted == "containerd" and lacking:
        raise ValueError(f"--runtime containerd: {lacking}")
    if wanted == "auto" and lacking:
        notes.append(f"Pods are simulated, nothing runs in containers: {lacking}.")
    return "simulated" if wanted == "simulated" or lacking else "containerd"


def prepare_containerd(cluster: Cluster, host: Host) -> None:
    """Its configuration; one that survived its supervisor is stopped, so that the new one finds the socket free."""
    from peavine.kubelet import containerd

    asyncio.run(containerd.stop(host.directory))
    layout = containerd.Layout(host.directory)
    if cluster.cni:
        conf, _, programs = cluster.cni.partition(":")
        layout = containerd.Layout(host.directory, cni_bin_dir=Path(programs), foreign_cni_conf_dir=Path(conf))
    containerd.write_config(layout)


def port_is_free(port: int) -> None:
    """Raises ValueError if another server has it: the API server could only end again and again."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ValueError(
                f"port {port} is in use on this machine ({error.strerror}): choose another --secure-port"
            ) from error


def last_words(cluster: Cluster) -> list[tuple[str, str]]:
    """(process, last line of its log) of the processes that were restarted more than once."""
    try:
        state = json.loads((cluster.run_dir / "state.json").read_text())
    except (OSError, ValueError):
        return []
    found = []
    for name, entry in state["processes"].items():
        if entry["restarts"] > 1:
            log = cluster.directory / "logs" / f"{name}.log"
            lines = log.read_text(errors="replace").split("\n") if log.exists() else []
            found.append((name, next((line.strip(" |") for line in reversed(lines) if line.strip(" |+-")), "no words")))
    return found


def start_supervisor(cluster: Cluster) -> None:
    log_dir = cluster.directory / "logs"
    log_dir.mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, "-m", "peavine.cmd.main", "supervise", f"--data-dir={cluster.data_dir}"]
    with open(log_dir / "supervisor.log", "ab", opener=privately) as out:
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, cwd=cluster.data_dir
        )


async def give_images(host: Host, seconds: float) -> None:
    from peavine.cmd.images import ensure_builtin_images
    from peavine.kubelet import containerd

    # gRPC prints a line for each program that is started while it works; those of the import exec at once.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    layout = containerd.Layout(host.directory)
    await containerd.wait_ready(layout, seconds)
    await ensure_builtin_images(str(layout.socket))


async def node_ready(client: Client, name: str) -> None:
    """Return once the node says so itself."""
    nodes = client.resource("v1", "nodes")
    selector = f"metadata.name={name}"
    while True:
        try:
            listed = await nodes.list(field_selector=selector)
            if any(_is_ready(node) for node in listed["items"] or ()):
                return
            version = listed["metadata"]["resourceVersion"]
            async for type_, node in nodes.watch(resource_version=version, field_selector=selector):
                if type_ in ("ADDED", "MODIFIED") and _is_ready(node):
                    return
        except (Unreachable, ApiError):
            await client.clock.sleep(0.1)


def _is_ready(node: dict) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def reason_of(error: BaseException) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
