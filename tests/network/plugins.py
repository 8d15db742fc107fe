"""What a container runtime does with a CNI configuration: run its plugins, each with the result of the one before."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import orjson

BIN = "/usr/lib/cni"


def call(
    command: str, conflist: Path, container: str, netns: str, capabilities: dict[str, Any] | None = None
) -> dict[str, Any]:
    """ADD, CHECK or DEL of a whole chain in the calling thread's namespace; the result of the last plugin."""
    config = orjson.loads(conflist.read_bytes())
    plugins = config["plugins"]
    previous: dict[str, Any] | None = None
    cached = conflist.parent.parent / f"{container}.result"
    if command != "ADD" and cached.exists():
        previous = orjson.loads(cached.read_bytes())
    for plugin in reversed(plugins) if command == "DEL" else plugins:
        single = {**plugin, "cniVersion": config["cniVersion"], "name": config["name"]}
        granted = {k: v for k, v in (capabilities or {}).items() if plugin.get("capabilities", {}).get(k)}
        if granted:
            single["runtimeConfig"] = granted
        if command == "CHECK" and plugin["type"] == "bandwidth" and not granted:
            continue  # Version 1.1.1 of the plugin crashes when asked to check a pod without limits.
        if previous is not None:
            single["prevResult"] = previous
        done = subprocess.run(
            [f"{BIN}/{plugin['type']}"],
            input=orjson.dumps(single),
            capture_output=True,
            env={
                **os.environ,
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": container,
                "CNI_NETNS": netns,
                "CNI_IFNAME": "eth0",
                "CNI_PATH": BIN,
            },
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{plugin['type']}: {done.stdout.decode()} {done.stderr.decode()}")
        if command == "ADD":
            previous = orjson.loads(done.stdout)
    if command == "ADD":
        cached.write_bytes(orjson.dumps(previous))
        _remember(conflist.parent.parent / "results", config["name"], container, capabilities, previous)
    return previous or {}


def _remember(
    results: Path, network: str, container: str, capabilities: dict[str, Any] | None, result: dict[str, Any] | None
) -> None:
    """As libcni keeps it below /var/lib/cni."""
    results.mkdir(exist_ok=True)
    cache = {
        "kind": "cniCacheV1",
        "containerId": container,
        "ifName": "eth0",
        "networkName": network,
        "capabilityArgs": capabilities or {},
        "result": result,
    }
    (results / f"{network}-{container}-eth0").write_bytes(orjson.dumps(cache))
