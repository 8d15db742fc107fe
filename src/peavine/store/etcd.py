"""The store of several machines: etcd v3 over gRPC. Any number of API servers may share it.

Each operation is one transaction on the key's mod_revision. Reads are linearizable. A lost connection is taken up with
the next endpoint; reads are tried again, writes only while it is certain that they were not sent.

Progress is shown by a mark: a key below the watched prefix is put and deleted, and its events, which nobody sees, come
after all that happened before. etcd has a request for it, which versions before 3.4.31 and 3.5.13 may answer ahead of
events that are still under way (etcd's issue 15220): a watch that believed it would lose those.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from peavine.base.backoff import Backoff
from peavine.base.clock import REAL, Clock
from peavine.store import etcd_messages as messages
from peavine.store.interface import (
    VALUE_BYTES_MAX,
    Batch,
    Compacted,
    Conflict,
    FutureRevision,
    KeyValue,
    LeaseNotFound,
    Page,
    StoreError,
    TooLarge,
    Unavailable,
    Watch,
)

log = logging.getLogger(__name__)

REQUEST_SECONDS_MAX = 10.0
CONNECT_SECONDS_MAX = 2.0
_PIECE_KEYS = 500
MARK = ".progress"  # ends the key whose events show progress; keys of this ending are nobody's
_KV, _LEASE = "/etcdserverpb.KV/", "/etcdserverpb.Lease/"
_WATCH = "/etcdserverpb.Watch/Watch"
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class EtcdStore:
    """Make with `await EtcdStore.open(...)`."""

    def __init__(self, channels: list[grpc.aio.Channel], clock: Clock) -> None:
        self._channels = channels
        self._use = 0  # the endpoint in use; all move on together when it fails
        self._clock = clock
        self._seen = 0  # the highest revision that etcd has told
        self._watches: set[EtcdWatch] = set()
        self._marking = False
        self._closed = False

    @classmethod
    async def open(
        cls,
        endpoints: Sequence[str],
        *,
        ca_file: str = "",
        cert_file: str = "",
        key_file: str = "",
        clock: Clock = REAL,
    ) -> EtcdStore:
        """Connect to `host:port` endpoints, with TLS where `ca_file` or `cert_file` is given; raises `Unavailable`."""
        if ca_file or cert_file:
            credentials = grpc.ssl_channel_credentials(_content(ca_file), _content(key_file), _content(cert_file))
            channels = [grpc.aio.secure_channel(e, credentials, options=_CHANNEL_OPTIONS) for e in endpoints]
        else:
            channels = [grpc.aio.insecure_channel(e, options=_CHANNEL_OPTIONS) for e in endpoints]
        store = cls(channels, clock)
        try:
            await store.revision()
        except BaseException:
            await store.close()
            raise
        return store

    async def _channel(self) -> grpc.aio.Channel:
        """A connected channel: the one in use, or the next that can be reached; raises `Unavailable`."""
        if self._closed:
            raise Unavailable("the store is closed")
        for _ in self._channels:
            channel, use = self._channels[self._use], self._use
            if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
                return channel
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(channel.channel_ready(), CONNECT_SECONDS_MAX)
                return channel
            self._leave(use)
        raise Unavailable("no endpoint of etcd can be reached")

    def _leave(self, use: int) -> None:
        if use == self._use:
            self._use = (use + 1) % len(self._channels)

    async def _call(self, method: str, request: bytes, *, again: bool) -> bytes:
        """One unary call; `again`: it may be sent twice."""
        for attempt in range(len(self._channels) + 2):
            channel, use = await self._channel(), self._use
            try:
                answer: bytes = await channel.unary_unary(method)(request, timeout=REQUEST_SECONDS_MAX)
            except grpc.aio.AioRpcError as error:
                code, text = error.code(), error.details() or ""
                if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL):
                    self._leave(use)
                    if again and attempt <= len(self._channels):
                        continue
                raise _translated(code, text) from error
            self._seen = max(self._seen, messages.header_revision(answer))
            return answer
        raise Unavailable("no endpoint of etcd answers")

    async def get(self, key: str, revision: int = 0) -> tuple[KeyValue | None, int]:
        answer = await self._read(messages.range_request(key, revision), revision)
        return (answer.items[0] if answer.items else None), revision or answer.revision

    async def range(self, prefix: str, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        # In pieces of one revision, so that neither etcd nor this loop works on one huge message.
        items: list[KeyValue] = []
        while True:
            piece = min(_PIECE_KEYS, limit - len(items)) if limit else _PIECE_KEYS
            answer = await self._read(messages.prefix_request(prefix, start, piece, revision), revision)
            revision = revision or answer.revision
            items += [item for item in answer.items if not item.key.endswith(MARK)]
            if not answer.more or len(items) == limit:
                break
            start = answer.items[-1].key + "\0"
        return Page(items, revision, answer.more, answer.total - len(answer.items) if answer.more else 0)

    async def _read(self, request: bytes, revision: int) -> messages.RangeResponse:
        try:
            return messages.range_response(await self._call(_KV + "Range", request, again=True))
        except Compacted:
            # The refusal does not say what is compacted; the caller's revision is below it.
            raise Compacted(revision) from None
        except FutureRevision:
            raise FutureRevision(await self.revision()) from None

    async def count(self, prefix: str) -> int:
        request = messages.prefix_request(prefix, "", 0, 0, count_only=True)
        return (await self._read(request, 0)).total

    async def put(self, key: str, value: bytes, expect: int | None = None, lease: int = 0) -> KeyValue:
        if len(value) > VALUE_BYTES_MAX:
            raise TooLarge(key, len(value))
        try:
            answer = await self._txn(messages.put_txn(key, value, expect, lease))
        except LeaseNotFound:
            raise LeaseNotFound(lease) from None
        if not answer.succeeded:
            raise Conflict(key, answer.found[0] if answer.found else None)
        return answer.found[0]._replace(value=value)

    async def delete(self, key: str, expect: int | None = None) -> KeyValue:
        answer = await self._txn(messages.delete_txn(key, expect))
        if not answer.succeeded or not answer.deleted:
            raise Conflict(key, answer.found[0] if answer.found else None)
        return answer.deleted[0]._replace(mod_revision=answer.revision)

    async def _txn(self, request: bytes) -> messages.TxnResponse:
        return messages.txn_response(await self._call(_KV + "Txn", request, again=False))

    def watch(self, prefix: str, start_revision: int = 0) -> Watch:
        if self._closed:
            raise Unavailable("the store is closed")
        # "From now on" must hold from this call, before the stream exists: from what this client has seen.
        watch = EtcdWatch(self, prefix, start_revision or self._seen + 1, floating=not start_revision)
        self._watches.add(watch)
        return watch

    async def progress(self) -> None:
        if self._marking:
            return
        self._marking = True
        try:
            for prefix in {watch.prefix for watch in self._watches}:
                # Best effort: a mark that another server has deleted meanwhile has been seen as well.
                with contextlib.suppress(Unavailable, Conflict):
                    await self.put(prefix + MARK, b"")
                    await self.delete(prefix + MARK)
        finally:
            self._marking = False

    async def revision(self) -> int:
        # Any linearizable read tells; counting one key that need not exist is the cheapest.
        await self._call(_KV + "Range", messages.range_request("/"), again=True)
        return self._seen

    async def compact(self, revision: int) -> None:
        try:
            await self._call(_KV + "Compact", messages.compaction_request(revision), again=True)
        except Compacted:
            return
        except FutureRevision:
            raise FutureRevision(await self.revision()) from None

    async def grant(self, ttl_seconds: int) -> int:
        request = messages.lease_grant(ttl_seconds)
        return messages.lease_response(await self._call(_LEASE + "LeaseGrant", request, again=True))[0]

    async def keep_alive(self, lease: int) -> int:
        channel = await self._channel()
        call = channel.stream_stream(_LEASE + "LeaseKeepAlive")(timeout=REQUEST_SECONDS_MAX)
        try:
            await call.write(messages.lease_id(lease))
            answer = await call.read()
        except grpc.aio.AioRpcError as error:
            raise _translated(error.code(), error.details() or "") from error
        finally:
            call.cancel()
        if answer is grpc.aio.EOF:
            raise Unavailable("etcd ended the stream")
        if not (ttl := messages.lease_response(answer)[1]):
            raise LeaseNotFound(lease)
        return ttl

    async def revoke(self, lease: int) -> None:
        try:
            await self._call(_LEASE + "LeaseRevoke", messages.lease_id(lease), again=False)
        except LeaseNotFound:
            raise LeaseNotFound(lease) from None

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for watch in list(self._watches):
            watch.end(Unavailable("the store is closed"))
        for channel in self._channels:
            await channel.close()


class EtcdWatch:
    """One stream of one watcher. gRPC's flow control makes a slow watcher etcd's matter, which reads history for it."""

    def __init__(self, store: EtcdStore, prefix: str, start_revision: int, floating: bool) -> None:
        self._store = store
        self.prefix = prefix
        self._next = start_revision
        self._floating = floating  # no revision was promised: where history is gone, start later
        self._call: Any = None
        self._backoff = Backoff(first=0.05, most=2.0, jitter=0.2)
        self._error: StoreError | None = None
        self._closed = False

    def __aiter__(self) -> EtcdWatch:
        return self

    async def __anext__(self) -> Batch:
        while True:
            if self._error is not None:
                error, self._error = self._error, None
                self.close()
                raise error
            if self._closed:
                raise StopAsyncIteration
            try:
                if self._call is None:
                    await self._connect()
                data = await self._call.read()
                if data is grpc.aio.EOF:
                    raise Unavailable("etcd ended the stream")
                batch = self._received(messages.watch_response(data))
                if batch is not None:
                    return batch
            except (grpc.aio.AioRpcError, Unavailable) as error:
                if self._closed or self._error is not None:
                    continue
                log.info("watch of %s: %s; connecting again from revision %d", self.prefix, error, self._next)
                self._drop()
                self._floating = False
                self._store._leave(self._store._use)
                await self._store._clock.sleep(self._backoff.next())
            except asyncio.CancelledError:
                # gRPC ends the stream with its reader; the next call opens one from where this one was. It also
                # raises this where `close` ended the stream under a reader.
                self._drop()
                task = asyncio.current_task()
                if (self._closed or self._error is not None) and (task is None or not task.cancelling()):
                    continue
                raise
            except StoreError:
                self.close()
                raise

    async def _connect(self) -> None:
        channel = await self._store._channel()
        # A member cut off from its leader ends the stream instead of staying silent.
        self._call = channel.stream_stream(_WATCH)(metadata=(("hasleader", "true"),))
        await self._call.write(messages.watch_create(self.prefix, self._next))

    def _received(self, answer: messages.WatchResponse) -> Batch | None:
        if answer.compact_revision:
            if not self._floating:
                raise Compacted(answer.compact_revision)
            self._drop()
            self._next = answer.compact_revision + 1
            return None
        if answer.canceled:
            raise Unavailable(answer.cancel_reason or "etcd cancelled the watch")
        self._store._seen = max(self._store._seen, answer.revision)
        if answer.created:
            self._backoff.forget()
            return None
        self._floating = False
        if answer.events:
            self._next = answer.events[-1].kv.mod_revision + 1
        elif answer.revision >= self._next:
            self._next = answer.revision + 1
        return Batch([event for event in answer.events if not event.kv.key.endswith(MARK)], self._next - 1)

    def _drop(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def end(self, error: StoreError) -> None:
        self._error = error
        self._store._watches.discard(self)
        self._drop()

    def close(self) -> None:
        self._closed = True
        self._store._watches.discard(self)
        self._drop()

    async def aclose(self) -> None:
        self.close()


def _content(file: str) -> bytes | None:
    return Path(file).read_bytes() if file else None


def _translated(code: grpc.StatusCode, text: str) -> StoreError:
    if "compacted" in text:
        return Compacted(0)
    if "future revision" in text:
        return FutureRevision(0)
    if "requested lease not found" in text:
        return LeaseNotFound(0)
    if "request is too large" in text:
        return TooLarge("the key", VALUE_BYTES_MAX)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL):
        return Unavailable(text or code.name)
    return StoreError(f"etcd: {code.name}: {text}")
