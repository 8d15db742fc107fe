"""Gets an image onto the node as the pull policy says: events, back-off and reasons are upstream's."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.base.lifetimes import scope
from peavine.kubelet.cri.runtime import Message, RpcError, Runtime

Object = dict[str, Any]
Record = Callable[[str, str, str], None]

# A pull that takes longer says how far it has come, this often.
PROGRESS_SECONDS = 10.0
BACKOFF_SECONDS_FIRST, BACKOFF_SECONDS_MAX = 10.0, 300.0
PARALLEL_PULLS_MAX = 5

_NAME = re.compile(
    r"^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
    r"(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$"
)


class ImageError(Exception):
    """The container waits with this reason (`ErrImagePull`, `ImagePullBackOff`, …) and message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def with_default_tag(image: str) -> str:
    """`busybox` is `busybox:latest`. Raises ImageError InvalidImageName."""
    first, slash, _ = image.partition("/")
    # Without a dot or a port the first part is no host: it has to be as small as any other.
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    if not _NAME.match(image) or (not is_host and first != first.lower()):
        raise ImageError(
            "InvalidImageName",
            f'Failed to apply default image tag "{image}": couldn\'t parse image name "{image}":'
            " invalid reference format",
        )
    if "@" in image or ":" in image.rpartition("/")[2]:
        return image
    return image + ":latest"


def default_policy(image: str) -> str:
    tag = image.rpartition("/")[2]
    return "Always" if "@" not in tag and (":" not in tag or tag.endswith(":latest")) else "IfNotPresent"


def _duration(seconds: float) -> str:
    """Go's way to print a duration, to the millisecond."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(seconds // 60)}m" + f"{seconds % 60:.3f}".rstrip("0").rstrip(".") + "s"


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.1f}"


async def _failure(work: Coroutine[Any, Any, None]) -> RpcError | None:
    try:
        await work
    except RpcError as error:
        return error
    return None


class Puller:
    """One for the node. Pulls of the same image at the same time are not joined: the runtime does that."""

    def __init__(self, runtime: Runtime, *, parallel_max: int = PARALLEL_PULLS_MAX, clock: Clock = REAL) -> None:
        self._runtime, self._clock = runtime, clock
        self._places = asyncio.Semaphore(parallel_max)
        self._backoff = Backoff(first=BACKOFF_SECONDS_FIRST, most=BACKOFF_SECONDS_MAX)
        self._until: dict[tuple[str, str], float] = {}
        # What the last pull failed with.
        self._problems: dict[tuple[str, str], str] = {}
        # Images that are in use or were used lately, for the collector: id -> Unix seconds.
        self.last_used: dict[str, float] = {}

    async def ensure(
        self,
        image: str,
        policy: str,
        *,
        owner: str,
        record: Record,
        credentials: Callable[[str], Awaitable[list[Message]]] | None = None,
        sandbox: Message | None = None,
    ) -> Message:
        """CRI's Image, which is on the node afterwards. `record(type, reason, message)` makes events.

        Raises ImageError. `owner` keys the back-off (a pod's uid).
        """
        try:
            name = with_default_tag(image)
        except ImageError as error:
            record("Warning", "InspectFailed", error.message)
            raise
        try:
            found = await self._runtime.image_status(name)
        except RpcError as error:
            message = f'Failed to inspect image "{image}": {error}'
            record("Warning", "InspectFailed", message)
            raise ImageError("ImageInspectError", message) from error
        policy = policy or default_policy(image)
        if found is not None and policy in ("IfNotPresent", "Never"):
            record(
                "Normal",
                "Pulled",
                f'Container image "{image}" already present on machine and can be accessed by the pod',
            )
            self._forget(owner, name)
            return found
        if policy == "Never":
            message = f'Container image "{image}" is not present with pull policy of Never'
            record("Warning", "ErrImageNeverPull", message)
            raise ImageError("ErrImageNeverPull", message)
        key = (owner, name)
        if self._until.get(key, 0.0) > self._clock.monotonic():
            message = f'Back-off pulling image "{image}"'
            record("Normal", "BackOff", message)
            raise ImageError("ImagePullBackOff", f"{message}: {self._problems.get(key, '')}".removesuffix(": "))
        return await self._pull(image, name, key, record, credentials, sandbox)

    def _forget(self, owner: str, name: str) -> None:
        self._until.pop((owner, name), None)
        self._problems.pop((owner, name), None)
        self._backoff.forget((owner, name))

    def forget_owner(self, owner: str) -> None:
        for key in [key for key in self._until if key[0] == owner]:
            self._forget(*key)

    def waiting_seconds(self, owner: str) -> float | None:
        """Until the next try of any of the owner's images, or None."""
        waits = [until - self._clock.monotonic() for (who, _), until in self._until.items() if who == owner]
        return max(0.0, min(waits)) if waits else None

    async def _pull(
        self,
        image: str,
        name: str,
        key: tuple[str, str],
        record: Record,
        credentials: Callable[[str], Awaitable[list[Message]]] | None,
        sandbox: Message | None,
    ) -> Message:
        record("Normal", "Pulling", f'Pulling image "{image}"')
        begun = self._clock.monotonic()
        try:
            async with self._places:
                waited = self._clock.monotonic()
                await self._telling(image, record, self._with_each_credential(name, credentials, sandbox))
            found = await self._runtime.image_status(name)
            if found is None:
                raise RpcError("NOT_FOUND", f'failed to resolve reference "{name}" after the pull')
        except RpcError as error:
            now = self._clock.monotonic()
            self._until[key] = now + self._backoff.next(key)
            record("Warning", "Failed", f'Failed to pull image "{image}": {error}')
            reason = "RegistryUnavailable" if error.message.startswith("RegistryUnavailable") else "ErrImagePull"
            self._problems[key] = f"{reason}: {error}"
            raise ImageError(reason, str(error)) from error
        now = self._clock.monotonic()
        self._forget(*key)
        record(
            "Normal",
            "Pulled",
            f'Successfully pulled image "{image}" in {_duration(now - waited)}'
            f" ({_duration(now - begun)} including waiting). Image size: {found.get('size', 0)} bytes.",
        )
        return found

    async def _telling(self, image: str, record: Record, pull: Coroutine[Any, Any, None]) -> None:
        """Pull, and say now and then how far it has come."""
        async with scope() as tasks:
            telling = tasks.start(self._tell_progress(image, record), name=f"progress of {image}")
            # An error that leaves a scope would be wrapped.
            failure = await _failure(pull)
            telling.cancel()
        if failure is not None:
            raise failure

    async def _tell_progress(self, image: str, record: Record) -> None:
        begun = self._clock.monotonic()
        while True:
            await self._clock.sleep(PROGRESS_SECONDS)
            try:
                layers = await self._runtime.pull_progress()
            except RpcError:
                # Only containerd tells.
                return
            have, total = sum(layer[1] for layer in layers), sum(layer[2] for layer in layers)
            passed = _duration(round(self._clock.monotonic() - begun))
            # The runtime does not say which layer is of which image: with several pulls, the numbers are all of them.
            shown = f": {_mebibytes(have)} of {_mebibytes(total)} MiB in {len(layers)} layers" if layers else ""
            record("Normal", "Pulling", f'Still pulling image "{image}" after {passed}{shown}')

    async def _with_each_credential(
        self, name: str, credentials: Callable[[str], Awaitable[list[Message]]] | None, sandbox: Message | None
    ) -> None:
        """Try what is known for the registry in turn; without any, pull as nobody."""
        found = await credentials(name) if credentials else []
        last: RpcError | None = None
        for auth in found or [None]:  # type: ignore[list-item]
            try:
                await self._runtime.pull_image(name, auth, sandbox)
                return
            except RpcError as error:
                last = error
        assert last is not None
        raise last
