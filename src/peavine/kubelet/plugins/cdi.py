"""The Container Device Interface for runtimes that do not know it (containerd before 2.0, as Debian 12 has it).

A CDI name (`vendor.example/class=device`) stands for edits of a container, which lie in files below /etc/cdi and
/var/run/cdi. Environment, device nodes and mounts go into the CRI message; an edit that CRI has no word for (hooks) is
refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Object = dict[str, Any]
# Later directories win.
DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
KNOWN = frozenset(("env", "deviceNodes", "mounts"))


class CdiError(ValueError):
    """A device cannot be injected; the message names it."""


@dataclass
class Edits:
    environment: dict[str, str] = field(default_factory=dict)
    devices: list[Object] = field(default_factory=list)
    mounts: list[Object] = field(default_factory=list)

    def add(self, edits: Object, name: str) -> None:
        unknown = sorted(key for key, value in edits.items() if value and key not in KNOWN)
        if unknown:
            raise CdiError(f"CDI device {name} needs {', '.join(unknown)}, which this container runtime cannot do")
        for entry in edits.get("env") or []:
            key, _, value = entry.partition("=")
            self.environment[key] = value
        for node in edits.get("deviceNodes") or []:
            self.devices.append(
                {
                    "container_path": node["path"],
                    "host_path": node.get("hostPath") or node["path"],
                    "permissions": node.get("permissions") or "rwm",
                }
            )
        for mount in edits.get("mounts") or []:
            options = mount.get("options") or []
            self.mounts.append(
                {
                    "container_path": mount["containerPath"],
                    "host_path": mount["hostPath"],
                    "readonly": "ro" in options,
                }
            )


def _specs(directories: Iterable[Path]) -> dict[str, tuple[Object, Object]]:
    """CDI name -> (the device's own edits, those of its spec)."""
    found: dict[str, tuple[Object, Object]] = {}
    for directory in directories:
        for file in sorted(directory.glob("*")):
            if file.suffix == ".json":
                spec = json.loads(file.read_text())
            elif file.suffix in (".yaml", ".yml"):
                import yaml

                spec = yaml.safe_load(file.read_text())
            else:
                continue
            for device in spec.get("devices") or []:
                name = f"{spec['kind']}={device['name']}"
                found[name] = (device.get("containerEdits") or {}, spec.get("containerEdits") or {})
    return found


def resolve(names: Sequence[str], directories: Iterable[Path] = DIRECTORIES) -> Edits:
    """What the devices add to a container. Raises CdiError for one that no file has."""
    try:
        specs = _specs(directories)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CdiError(f"CDI files cannot be read: {error}") from error
    missing = [name for name in names if name not in specs]
    if missing:
        raise CdiError(f"unresolvable CDI devices {', '.join(missing)}")
    edits, kinds = Edits(), set()
    for name in names:
        own, of_spec = specs[name]
        if (kind := name.partition("=")[0]) not in kinds:
            kinds.add(kind)
            edits.add(of_spec, name)
        edits.add(own, name)
    return edits
