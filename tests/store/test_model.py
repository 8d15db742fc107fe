"""Random operations on the stores of this process, beside a model too simple to be wrong."""

import asyncio
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peavine.store import Compacted, Conflict, open_store
from peavine.store.check import check

_KEYS = [f"/r/{folder}/{name}" for folder in ("a", "ab", "b") for name in "xy"]
_PREFIXES = ["", "/r/", "/r/a", "/r/a/", "/r/b/", "/r/b/x"]

_operations = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(_KEYS), st.sampled_from(["any", "right", "absent", "wrong"])),
        st.tuples(st.just("delete"), st.sampled_from(_KEYS), st.sampled_from(["any", "right", "wrong"])),
        st.tuples(st.just("range"), st.sampled_from(_PREFIXES), st.integers(0, 3), st.integers(0, 30)),
        st.tuples(st.just("watch"), st.sampled_from(_PREFIXES), st.integers(0, 30)),
        st.tuples(st.just("compact"), st.integers(0, 30)),
        st.tuples(st.just("reopen")),
    ),
    max_size=40,
)


class Model:
    """Every state there ever was, by revision."""

    def __init__(self, revision):
        self.revision, self.compacted = revision, 0
        self.states = {revision: {}}
        self.changes = {}  # revision -> (key, value or None)

    def change(self, key, value):
        state = dict(self.states[self.revision])
        self.revision += 1
        if value is None:
            state.pop(key)
        else:
            state[key] = (value, self.revision)
        self.states[self.revision], self.changes[self.revision] = state, (key, value)
        return self.revision

    def mod_revision(self, key):
        return self.states[self.revision].get(key, (b"", 0))[1]

    def events(self, prefix, start):
        return [(r, k, v) for r, (k, v) in sorted(self.changes.items()) if r >= start and k.startswith(prefix)]


async def _drain(watch, prefix, start, model):
    told = []
    while len(told) < len(model.events(prefix, start)):
        batch = await asyncio.wait_for(anext(watch), 5)
        told += [(e.kv.mod_revision, e.kv.key, e.kv.value if e.type == "PUT" else None) for e in batch.events]
    assert told == model.events(prefix, start)


async def _play(url, operations):
    store = await open_store(url)
    model = Model(await store.revision())
    watches = []
    for number, (name, *args) in enumerate(operations):
        if name in ("put", "delete"):
            key, expectation = args
            stands = model.mod_revision(key)
            expect = {"any": None, "right": stands, "absent": 0, "wrong": stands + 1000}[expectation]
            value = b"%d" % number if name == "put" else None
            refused = (expect is not None and expect != stands) or (name == "delete" and not stands)
            try:
                done = await (store.put(key, value, expect) if name == "put" else store.delete(key, expect))
            except Conflict as conflict:
                assert refused and (conflict.current.mod_revision if conflict.current else 0) == stands
            else:
                assert not refused and done.mod_revision == model.change(key, value)
        elif name == "range":
            prefix, limit, back = args
            revision = max(1, model.revision - back)
            want = sorted((k, *v) for k, v in model.states.get(revision, {}).items() if k.startswith(prefix))
            try:
                page = await store.range(prefix, limit=limit, revision=revision)
            except Compacted:
                assert revision < model.compacted
            else:
                assert revision >= model.compacted
                shown = want[:limit] if limit else want
                assert [(kv.key, kv.value, kv.mod_revision) for kv in page.items] == shown
                assert (page.more, page.remaining) == (len(shown) < len(want), len(want) - len(shown))
        elif name == "watch":
            prefix, back = args
            start = max(model.compacted + 1, model.revision - back, 1)
            watches.append((store.watch(prefix, start), prefix, start))
        elif name == "compact":
            model.compacted = max(model.compacted, model.revision - args[0])
            if model.compacted > 0:
                await store.compact(model.compacted)
            # What a watcher has not yet read may be gone with this: it ends, which is checked elsewhere.
            for watch, _, _ in watches:
                watch.close()
            watches = []
        elif name == "reopen" and url != "memory://":
            await store.close()
            store, watches = await open_store(url), []
            assert await store.revision() == model.revision
    for watch, prefix, start in watches:
        await _drain(watch, prefix, start, model)
    assert await check(store) == []
    await store.close()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_random_operations_have_the_results_of_a_naive_model(kind):
    @settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_operations)
    def play(operations):
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(_play("memory://" if kind == "memory" else f"sqlite://{directory}/s.db", operations))

    play()
