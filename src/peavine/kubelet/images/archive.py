"""Images without a registry or a builder: an OCI layout in a tar file, made from files of this machine.

Follows the OCI image specification 1.0. The same input gives the same bytes, so an image built twice is imported once.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "riscv64": "riscv64"}


@dataclass(frozen=True)
class Recipe:
    """What goes into a one-layer image. `files`: path in the image -> (content, mode); `links`: path -> target."""

    name: str
    files: Mapping[str, tuple[bytes, int]]
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Sequence[str] = ()
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def architecture() -> str:
    """This machine's architecture in the words of images and node labels."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, machine)


def _entry(name: str, type_: bytes, mode: int, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name.strip("/") + ("/" if type_ == tarfile.DIRTYPE else ""))
    info.type, info.mode, info.size, info.linkname = type_, mode, size, link
    return info


def _layer(recipe: Recipe) -> bytes:
    buffer = io.BytesIO()
    paths = [*recipe.files, *recipe.links, *(d + "/x" for d in recipe.directories)]
    directories = {str(parent) for path in paths for parent in Path(path.strip("/")).parents} - {"."}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for directory in sorted(directories):
            mode = 0o1777 if directory in ("tmp", "var/tmp") else 0o755
            tar.addfile(_entry(directory, tarfile.DIRTYPE, mode))
        for path, (content, mode) in sorted(recipe.files.items()):
            tar.addfile(_entry(path, tarfile.REGTYPE, mode, len(content)), io.BytesIO(content))
        for path, target in sorted(recipe.links.items()):
            tar.addfile(_entry(path, tarfile.SYMTYPE, 0o777, link=target))
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def blobs(recipe: Recipe) -> tuple[bytes, bytes, bytes]:
    """Manifest, configuration and layer of the image."""
    layer = _layer(recipe)
    settings: dict[str, Any] = {
        "Entrypoint": list(recipe.entrypoint) or None,
        "Cmd": list(recipe.command) or None,
        "Env": [f"{k}={v}" for k, v in recipe.environment.items()] or None,
        "User": recipe.user or None,
        "WorkingDir": recipe.working_dir or None,
        "StopSignal": recipe.stop_signal or None,
        "Labels": dict(recipe.labels) or None,
    }
    config = _json(
        {
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {k: v for k, v in settings.items() if v is not None},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "peavine images"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [_descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        }
    )
    return manifest, config, layer


def build(recipe: Recipe) -> bytes:
    """The image as an OCI layout in a tar file, as `ctr images import` and `docker load` take it."""
    manifest, config, layer = blobs(recipe)
    described = _descriptor("application/vnd.oci.image.manifest.v1+json", manifest)
    described["annotations"] = {
        "io.containerd.image.name": recipe.name,
        "org.opencontainers.image.ref.name": recipe.name.rpartition(":")[2],
    }
    described["platform"] = {"architecture": architecture(), "os": "linux"}
    members = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "manifests": [described]}),
    }
    for blob in (manifest, config, layer):
        members["blobs/sha256/" + digest(blob).partition(":")[2]] = blob
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            tar.addfile(_entry(name, tarfile.REGTYPE, 0o644, len(data)), io.BytesIO(data))
    return buffer.getvalue()
