"""Where the kubelet keeps its files; upstream's names below the root directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Paths:
    root: Path
    pod_logs: Path

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    def pod(self, uid: str) -> Path:
        return self.pods / uid

    def volume(self, uid: str, plugin: str, name: str) -> Path:
        return self.pod(uid) / "volumes" / plugin.replace("/", "~") / name

    def subpath(self, uid: str, volume: str, container: str, index: int) -> Path:
        return self.pod(uid) / "volume-subpaths" / volume / container / str(index)

    def container(self, uid: str, name: str) -> Path:
        return self.pod(uid) / "containers" / name

    def hosts(self, uid: str) -> Path:
        return self.pod(uid) / "etc-hosts"

    def logs(self, pod: Object) -> Path:
        meta = pod["metadata"]
        return self.pod_logs / f"{meta.get('namespace', 'default')}_{meta['name']}_{meta['uid']}"

    @property
    def plugins(self) -> Path:
        return self.root / "plugins"

    @property
    def plugins_registry(self) -> Path:
        return self.root / "plugins_registry"

    @property
    def device_plugins(self) -> Path:
        return self.root / "device-plugins"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    def prepare(self) -> None:
        for directory in (self.root, self.pods, self.plugins, self.plugins_registry, self.device_plugins):
            directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        self.pod_logs.mkdir(parents=True, exist_ok=True)
