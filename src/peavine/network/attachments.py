"""What pods that are no more have left on the network: collected, as CNI's GC verb would.

A runtime that was killed while it made or removed a pod never comes back for it: its address stays taken, its host
ports stay mapped. Every reservation of host-local names the sandbox it is for, and the runtime's library keeps the
result of each ADD with the sandbox's path. Where that is gone, the chain's DEL is run once more, without a namespace,
as the specification has it. (The plugins of Debian 12 do not know GC itself, which came with version 1.1.)
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from peavine.network import cni

log = logging.getLogger(__name__)

RESULTS = Path("/var/lib/cni/results")
# An ADD that is under way has its reservation first and its result last.
young_seconds = 120.0
PLUGIN_SECONDS_MAX = 30


@dataclass(frozen=True, slots=True)
class Attachment:
    """One interface of one pod that has been given addresses."""

    container: str
    interface: str
    cached: dict[str, Any]
    """What the runtime's library remembers of its ADD; empty if it never ended."""

    @property
    def sandbox(self) -> str:
        interfaces = (self.cached.get("result") or {}).get("interfaces") or ()
        return next((i["sandbox"] for i in interfaces if i.get("sandbox")), "")


def collect(config_file: Path, state_dir: Path, bin_dirs: tuple[Path, ...], now: float, results: Path = RESULTS) -> int:
    """Run DEL for every attachment whose sandbox is gone; how many there were. One that fails is logged and left
    for the next time.
    """
    if not config_file.exists():
        return 0
    config = orjson.loads(config_file.read_bytes())
    done = 0
    for attachment in stale(state_dir, now, results):
        try:
            _delete(attachment, config, bin_dirs)
        except OSError as error:
            log.warning("network of the gone sandbox %s: %s", attachment.container[:12], error)
            continue
        _cache_file(results, attachment.container, attachment.interface).unlink(missing_ok=True)
        log.info("collected the network of a sandbox that is gone: %s", attachment.container[:12])
        done += 1
    return done


def stale(state_dir: Path, now: float, results: Path = RESULTS) -> list[Attachment]:
    """Attachments without their sandbox, each once, however many addresses it has."""
    found = {}
    for container, interface, since in _reservations(state_dir):
        if now - since < young_seconds:
            continue
        attachment = Attachment(container, interface, _cached(results, container, interface))
        if not attachment.sandbox or not os.path.ismount(attachment.sandbox):
            found[container, interface] = attachment
    return list(found.values())


def _reservations(state_dir: Path) -> Iterator[tuple[str, str, float]]:
    """(container, interface, when) of each address that host-local has given away: a file named like the address."""
    folder = state_dir / cni.NAME
    if not folder.is_dir():
        return
    for entry in os.scandir(folder):
        if entry.name == "lock" or entry.name.startswith("last_reserved_ip"):
            continue
        words = Path(entry.path).read_text().split()
        if len(words) == 2:
            yield words[0], words[1], entry.stat().st_mtime


def _cache_file(results: Path, container: str, interface: str) -> Path:
    return results / f"{cni.NAME}-{container}-{interface}"


def _cached(results: Path, container: str, interface: str) -> dict[str, Any]:
    try:
        return dict(orjson.loads(_cache_file(results, container, interface).read_bytes()))
    except (OSError, orjson.JSONDecodeError):
        return {}


def _delete(attachment: Attachment, config: dict[str, Any], bin_dirs: tuple[Path, ...]) -> None:
    """The whole chain, the last plugin first. Raises OSError for the first that refuses."""
    environment = {
        **os.environ,
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": attachment.container,
        "CNI_IFNAME": attachment.interface,
        "CNI_NETNS": "",
        "CNI_PATH": ":".join(map(str, bin_dirs)),
    }
    arguments = attachment.cached.get("capabilityArgs") or {}
    for plugin in reversed(config["plugins"]):
        single = {**plugin, "cniVersion": config["cniVersion"], "name": config["name"]}
        granted = {k: arguments[k] for k, yes in plugin.get("capabilities", {}).items() if yes and arguments.get(k)}
        if granted:
            single["runtimeConfig"] = granted
        if attachment.cached.get("result"):
            single["prevResult"] = attachment.cached["result"]
        program = next((p for d in bin_dirs if os.access(p := d / plugin["type"], os.X_OK)), None)
        if program is None:
            raise OSError(f"the plugin {plugin['type']} is not installed")
        try:
            done = subprocess.run(
                [program],
                input=orjson.dumps(single),
                capture_output=True,
                env=environment,
                timeout=PLUGIN_SECONDS_MAX,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{plugin['type']}: no end after {PLUGIN_SECONDS_MAX} s") from error
        if done.returncode:
            raise OSError(f"{plugin['type']}: {done.stdout.decode(errors='replace').strip()}")
