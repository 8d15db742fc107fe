"""Keeps container logs bounded: beyond `containerLogMaxSize` a log is renamed, the runtime opens a new one, older
parts are compressed, and at most `containerLogMaxFiles` stay."""

# ruff: noqa: ASYNC240 -- local files: shorter than a thread switch
from __future__ import annotations

import gzip
import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from peavine.kubelet.cri.runtime import RpcError

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)


async def rotate_all(kubelet: Kubelet) -> None:
    limit = kubelet.options.container_log_max_bytes
    for worker in list(kubelet.workers.values()):
        for container in worker.record.running():
            path = Path(container.log_path) if container.log_path else None
            try:
                if path is None or path.stat().st_size < limit:
                    continue
            except OSError:
                continue
            await rotate(kubelet, container.id, path)


async def rotate(kubelet: Kubelet, container_id: str, path: Path) -> None:
    """Rename the log and have the runtime open a new one. If that fails, the old name is given back."""
    keep = max(2, kubelet.options.container_log_max_files)
    rotated = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime(kubelet.clock.time()))}")
    parts = sorted(p for p in path.parent.glob(path.name + ".*") if not p.name.endswith(".tmp"))
    for part in parts[: max(0, len(parts) - (keep - 2))]:
        part.unlink(missing_ok=True)
    for part in parts:
        # The latest rotated part stays readable for followers; those before it are compressed.
        if part.exists() and part.suffix != ".gz":
            _compress(part)
    path.rename(rotated)
    try:
        await kubelet.runtime.reopen_log(container_id)
    except RpcError as error:
        log.warning("log %s is not rotated: %s", path, error)
        rotated.rename(path)


def _compress(path: Path) -> None:
    draft = path.with_name(path.name + ".tmp")
    with open(path, "rb") as source, gzip.open(draft, "wb") as target:
        shutil.copyfileobj(source, target)
    draft.rename(path.with_name(path.name + ".gz"))
    path.unlink()
