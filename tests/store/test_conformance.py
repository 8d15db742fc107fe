"""What every store promises, as `peavine.store.interface` says it: one suite for memory, SQLite and etcd."""

import asyncio
import functools

import pytest

from peavine.store import Compacted, Conflict, FutureRevision, KeyValue, LeaseNotFound, TooLarge, Unavailable
from peavine.store.interface import VALUE_BYTES_MAX
from tests.store.conftest import collect, on_each_store


@on_each_store
async def test_a_key_carries_the_revisions_of_its_creation_and_last_change(store, prefix):
    before = await store.revision()
    first = await store.put(prefix + "a", b"1")
    second = await store.put(prefix + "a", b"2")
    assert first == KeyValue(prefix + "a", b"1", first.mod_revision, first.mod_revision, 1)
    assert second == KeyValue(prefix + "a", b"2", first.mod_revision, second.mod_revision, 2)
    assert before < first.mod_revision < second.mod_revision
    assert await store.get(prefix + "a") == (second, second.mod_revision)
    assert (await store.get(prefix + "b"))[0] is None


@on_each_store
async def test_creating_what_exists_is_a_conflict_that_shows_it(store, prefix):
    stands = await store.put(prefix + "a", b"1", 0)
    with pytest.raises(Conflict) as refused:
        await store.put(prefix + "a", b"2", 0)
    assert refused.value.current == stands


@on_each_store
async def test_a_change_from_an_old_revision_is_refused_and_changes_nothing(store, prefix):
    old = await store.put(prefix + "a", b"1")
    new = await store.put(prefix + "a", b"2", old.mod_revision)
    revision = await store.revision()
    for refused_change in (
        store.put(prefix + "a", b"3", old.mod_revision),
        store.delete(prefix + "a", old.mod_revision),
    ):
        with pytest.raises(Conflict) as refused:
            await refused_change
        assert refused.value.current == new
    for missing in (
        store.put(prefix + "b", b"3", old.mod_revision),
        store.delete(prefix + "b", old.mod_revision),
        store.delete(prefix + "b"),
    ):
        with pytest.raises(Conflict) as refused:
            await missing
        assert refused.value.current is None
    assert await store.revision() == revision


@on_each_store
async def test_deleting_returns_what_was_there_under_the_revision_of_the_deletion(store, prefix):
    was = await store.put(prefix + "a", b"1")
    gone = await store.delete(prefix + "a", was.mod_revision)
    assert gone == was._replace(mod_revision=gone.mod_revision) and gone.mod_revision > was.mod_revision
    assert (await store.get(prefix + "a"))[0] is None
    again = await store.put(prefix + "a", b"2", 0)
    assert again.version == 1 and again.create_revision == again.mod_revision > gone.mod_revision


@on_each_store
async def test_of_many_writers_with_one_expectation_exactly_one_wins(store, prefix):
    stands = await store.put(prefix + "a", b"0")
    answers = await asyncio.gather(
        *(store.put(prefix + "a", b"%d" % n, stands.mod_revision) for n in range(50)), return_exceptions=True
    )
    winners = [a for a in answers if isinstance(a, KeyValue)]
    assert len(winners) == 1 and (await store.get(prefix + "a"))[0] == winners[0]
    assert sum(isinstance(a, Conflict) for a in answers) == 49


@on_each_store
async def test_concurrent_writes_each_get_a_revision_of_their_own(store, prefix):
    written = await asyncio.gather(*(store.put(f"{prefix}{n:03}", b"x") for n in range(200)))
    assert len({kv.mod_revision for kv in written}) == 200
    assert (await store.range(prefix)).items == sorted(written)


@on_each_store
async def test_a_range_in_pieces_at_one_revision_is_consistent_while_others_write(store, prefix):
    for n in range(10):
        await store.put(f"{prefix}{n}", b"old")
    whole = await store.range(prefix)
    page = await store.range(prefix, limit=4)
    assert page.items == whole.items[:4] and page.more and page.remaining == 6
    await store.delete(prefix + "5")
    await store.put(prefix + "6", b"new")
    await store.put(prefix + "55", b"new")
    seen = list(page.items)
    while page.more:
        page = await store.range(prefix, start=seen[-1].key + "\0", limit=4, revision=whole.revision)
        assert page.revision == whole.revision
        seen += page.items
    assert seen == whole.items
    assert (await store.get(prefix + "5", whole.revision)) == (whole.items[5], whole.revision)
    assert [kv.key[len(prefix) :] for kv in (await store.range(prefix)).items] == list("01234") + ["55"] + list("6789")


@on_each_store
async def test_a_prefix_bounds_a_range_exactly(store, prefix):
    for name in ("pods/a", "pods/b", "pods0", "podsx/a", "pod", "pods/\U0010ffff", "pods/é"):
        await store.put(prefix + name, b"x")
    names = [kv.key[len(prefix) :] for kv in (await store.range(prefix + "pods/")).items]
    assert names == ["pods/a", "pods/b", "pods/é", "pods/\U0010ffff"]
    assert await store.count(prefix + "pods") == 6
    assert (await store.range(prefix + "none/")).items == []


@on_each_store
async def test_a_future_revision_cannot_be_read(store, prefix):
    with pytest.raises(FutureRevision):
        await store.range(prefix, revision=await store.revision() + 1000)


@on_each_store
async def test_a_watch_tells_history_then_what_happens_with_the_previous_values(store, prefix):
    first = await store.put(prefix + "a", b"1")
    second = await store.put(prefix + "a", b"2")
    watch = store.watch(prefix, first.mod_revision)
    gone = await store.delete(prefix + "a")
    await store.put(prefix[:-1] + "x", b"another folder")
    events = await collect(watch, 3)
    assert [(e.type, e.kv, e.prev) for e in events] == [
        ("PUT", first, None),
        ("PUT", second, first),
        ("DELETE", KeyValue(prefix + "a", b"", 0, gone.mod_revision, 0), second),
    ]
    live = await store.put(prefix + "b", b"3")
    assert (await collect(watch, 1))[0].kv == live
    watch.close()
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    await store.delete(prefix[:-1] + "x")


@on_each_store
async def test_a_watch_without_a_revision_starts_now(store, prefix):
    await store.put(prefix + "old", b"1")
    watch = store.watch(prefix)
    new = await store.put(prefix + "new", b"2")
    assert [e.kv for e in await collect(watch, 1)] == [new]
    watch.close()


@on_each_store
async def test_a_watch_from_a_revision_to_come_stays_silent_until_then(store, prefix):
    now = await store.revision()
    watch = store.watch(prefix, now + 3)
    written = [await store.put(f"{prefix}{n}", b"x") for n in range(5)]
    assert [e.kv for e in await collect(watch, 3)] == written[2:]
    watch.close()


@on_each_store
async def test_waiting_for_an_event_can_be_given_up_and_taken_up_again(store, prefix):
    watch = store.watch(prefix, await store.revision() + 1)
    for n in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(collect(watch, 1), 0.05)
        written = await store.put(f"{prefix}{n}", b"x")
        assert [e.kv for e in await collect(watch, 1)] == [written]
    watch.close()


@on_each_store
async def test_watchers_hear_of_progress_without_events_on_demand(store, prefix):
    watch = store.watch(prefix, await store.revision() + 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(watch), 0.05)
    elsewhere = await store.put(prefix[:-1] + "x", b"another folder")

    async def until_told():
        while (batch := await anext(watch)).revision < elsewhere.mod_revision:
            assert not batch.events
        return batch

    async def ask():
        for _ in range(100):
            await store.progress()
            await asyncio.sleep(0.05)

    asking = asyncio.ensure_future(ask())
    assert not (await asyncio.wait_for(until_told(), 10)).events
    asking.cancel()
    watch.close()
    await store.delete(prefix[:-1] + "x")


@on_each_store
async def test_many_watchers_each_hear_of_their_own_folder(store, prefix):
    start = await store.revision() + 1
    watches = {n: store.watch(f"{prefix}{n}/", start) for n in range(10)}
    await asyncio.gather(*(store.put(f"{prefix}{n}/{k}", b"x") for n in range(10) for k in range(10)))
    for n, watch in watches.items():
        assert {e.kv.key for e in await collect(watch, 10)} == {f"{prefix}{n}/{k}" for k in range(10)}
        watch.close()


@on_each_store
async def test_compacted_history_is_gone_and_the_rest_stays(store, prefix):
    first = await store.put(prefix + "a", b"1")
    kept = await store.put(prefix + "kept", b"x")
    gone = await store.put(prefix + "gone", b"x")
    await store.delete(prefix + "gone")
    point = await store.put(prefix + "a", b"2")
    later = await store.put(prefix + "a", b"3")
    await store.compact(point.mod_revision)
    await store.compact(first.mod_revision)
    with pytest.raises(Compacted):
        await store.range(prefix, revision=gone.mod_revision)
    with pytest.raises(Compacted):
        await store.get(prefix + "a", first.mod_revision)
    with pytest.raises(Compacted):
        await collect(store.watch(prefix, gone.mod_revision), 1)
    assert (await store.range(prefix, revision=point.mod_revision)).items == [point, kept]
    watch = store.watch(prefix, point.mod_revision + 1)
    assert [(e.kv, e.prev) for e in await collect(watch, 1)] == [(later, point)]
    watch.close()
    with pytest.raises(FutureRevision):
        await store.compact(await store.revision() + 1000)


@on_each_store
async def test_the_keys_of_a_lease_end_with_it(store, prefix):
    lease = await store.grant(600)
    leased = await store.put(prefix + "a", b"1", lease=lease)
    assert leased.lease == lease and (await store.get(prefix + "a"))[0] == leased
    await store.put(prefix + "b", b"1", lease=lease)
    freed = await store.put(prefix + "b", b"2")
    assert await store.keep_alive(lease) == 600
    watch = store.watch(prefix)
    await store.revoke(lease)
    assert [(e.type, e.prev) for e in await collect(watch, 1)] == [("DELETE", leased)]
    watch.close()
    assert (await store.range(prefix)).items == [freed]
    for with_ended_lease in (
        store.put(prefix + "c", b"1", lease=lease),
        store.keep_alive(lease),
        store.revoke(lease),
    ):
        with pytest.raises(LeaseNotFound):
            await with_ended_lease


@pytest.mark.slow
@on_each_store
async def test_a_lease_that_is_not_renewed_ends_by_itself(store, prefix):
    lease = await store.grant(2)
    await store.put(prefix + "a", b"1", lease=lease)
    watch = store.watch(prefix)
    assert [e.type for e in await collect(watch, 1)] == ["DELETE"]
    watch.close()


@on_each_store
async def test_values_may_be_large_but_not_larger(store, prefix):
    large = await store.put(prefix + "a", b"x" * (VALUE_BYTES_MAX - 1024))
    assert (await store.get(prefix + "a"))[0] == large
    assert (await store.put(prefix + "empty", b"")).value == b""
    with pytest.raises(TooLarge):
        await store.put(prefix + "b", b"x" * (VALUE_BYTES_MAX + 1))


@functools.partial(on_each_store, checked=False)
async def test_after_closing_every_call_says_so(store, prefix):
    watch = store.watch(prefix)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(watch), 0.05)
    closing = asyncio.ensure_future(store.close())
    with pytest.raises(Unavailable):
        await asyncio.wait_for(anext(watch), 5)
    await closing
    with pytest.raises(Unavailable):
        await store.get(prefix)
    with pytest.raises(Unavailable):
        await store.put(prefix, b"")
    with pytest.raises(Unavailable):
        store.watch(prefix)
