"""Removes images that no container uses, when the disk that holds them fills up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from peavine.kubelet.cri.runtime import Message, RpcError
from peavine.kubelet.node import machine

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

log = logging.getLogger(__name__)
LOOK_SECONDS = 300.0


def choose(images: list[Message], used: set[str], last_used: dict[str, float], now: float, age: float) -> list[Message]:
    """Images that may go, the longest unused first. Pinned ones, those in use, and those just come stay."""
    free = [i for i in images if not i.get("pinned") and i["id"] not in used]
    old = [i for i in free if now - last_used.get(i["id"], 0.0) >= age]
    return sorted(old, key=lambda i: last_used.get(i["id"], 0.0))


class ImageCollector:
    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet

    async def run(self) -> None:
        """Ends by cancellation."""
        while True:
            try:
                await self.look()
            except (RpcError, OSError) as error:
                log.info("image collection: %s", error)
            await self._kubelet.clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        options = self._kubelet.options
        await note_use(self._kubelet)
        if options.image_maximum_age_seconds > 0:
            await remove_unused(self._kubelet, age=options.image_maximum_age_seconds)
        disk = machine.disk(options.image_fs_dir or options.root_dir)
        used_percent = 100 - disk.available * 100 // max(1, disk.capacity)
        if used_percent < options.image_gc_high_percent:
            return
        wanted = disk.capacity * (100 - options.image_gc_low_percent) // 100 - disk.available
        freed = await remove_unused(self._kubelet, wanted)
        if freed < wanted:
            message = (
                f"Failed to garbage collect required amount of images. Attempted to free {wanted} bytes,"
                f" but only found {freed} bytes eligible to free."
            )
            name = options.node_name
            about = {"kind": "Node", "name": name, "uid": name}
            self._kubelet.recorder.event(about, "Warning", "FreeDiskSpaceFailed", message)
            log.warning("%s", message)


async def _used(kubelet: Kubelet) -> set[str]:
    return {str((c.get("image") or {}).get("image", "")) for c in await kubelet.runtime.list_containers()}


async def note_use(kubelet: Kubelet) -> tuple[list[Message], set[str]]:
    """Look at what is there and what is used, and remember when."""
    images, used = await kubelet.runtime.list_images(), await _used(kubelet)
    now, memory = kubelet.clock.time(), kubelet.puller.last_used
    for image in images:
        names = {image["id"], *image.get("repo_tags", []), *image.get("repo_digests", [])}
        if names & used:
            used.add(image["id"])
            memory[image["id"]] = now
        else:
            # First seen: as old as this look.
            memory.setdefault(image["id"], now)
    for gone in memory.keys() - {image["id"] for image in images}:
        del memory[gone]
    return images, used


async def remove_unused(kubelet: Kubelet, wanted: int | None = None, *, age: float | None = None) -> int:
    """Remove images unused for `age` seconds (None: the least that is allowed) until `wanted` bytes are free (None:
    all of them). Returns the bytes freed."""
    images, used = await note_use(kubelet)
    pause = kubelet.sandbox_image
    keep = used | {image["id"] for image in images if pause and pause in image.get("repo_tags", [])}
    age = kubelet.options.image_minimum_age_seconds if age is None else age
    freed = 0
    for image in choose(images, keep, kubelet.puller.last_used, kubelet.clock.time(), age):
        if wanted is not None and freed >= wanted:
            break
        try:
            await kubelet.runtime.remove_image(image["id"])
        except RpcError as error:
            log.info("image %s stays: %s", image["id"], error)
            continue
        freed += int(image.get("size", 0))
    return freed
