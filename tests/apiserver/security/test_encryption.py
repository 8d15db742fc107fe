"""Encryption at rest: what the store holds, who can read it, and how keys change."""

import asyncio
import base64
import json
import os

import pytest

from peavine.apiserver.encryption import secretbox
from peavine.apiserver.encryption.config import ConfigError, parse
from peavine.apiserver.encryption.kms import KmsProvider, Plugin, Wrapped
from peavine.apiserver.encryption.store import EncryptedStore, Undecryptable
from peavine.store import open_store
from peavine.store.interface import Conflict

KEYS = {kind: base64.b64encode(bytes(range(32))).decode() for kind in ("one", "two")}
KEYS["two"] = base64.b64encode(bytes(range(32, 64))).decode()


def keyed(kind, *names):
    return {kind: {"keys": [{"name": name, "secret": KEYS[name]} for name in names]}}


def configuration(*providers, resources=("secrets",)):
    return parse({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
        "resources": [{"resources": list(resources), "providers": list(providers)}],
    })  # fmt: skip


KEY, VALUE = "/registry/secrets/team/s", b'{"data":{"password":"c2VjcmV0"}}'


@pytest.mark.parametrize("kind", ["aesgcm", "aescbc", "secretbox"])
def test_a_secret_is_unreadable_in_the_store_and_readable_through_it(kind):
    async def play():
        inner = await open_store("memory://")
        store = EncryptedStore(inner, configuration(keyed(kind, "one"), {"identity": {}}))
        watch = store.watch("/registry/", 1)
        await store.put(KEY, VALUE, expect=0)
        await store.put("/registry/configmaps/team/c", b"plain")
        kept = (await inner.get(KEY))[0].value
        assert kept.startswith(f"k8s:enc:{kind}:v1:one:".encode())
        assert b"password" not in kept and b"c2VjcmV0" not in kept
        assert (await inner.get("/registry/configmaps/team/c"))[0].value == b"plain"
        assert (await store.get(KEY))[0].value == VALUE
        assert [kv.value for kv in (await store.range("/registry/secrets/")).items] == [VALUE]
        events = []
        async for batch in watch:
            events += batch.events
            if len(events) == 2:
                break
        watch.close()
        assert events[0].kv.value == VALUE
        with pytest.raises(Conflict) as caught:
            await store.put(KEY, b"x", expect=0)
        assert caught.value.current.value == VALUE
        assert (await store.delete(KEY)).value == VALUE
        await store.close()

    asyncio.run(play())


def test_keys_rotate_by_rewriting():
    async def play():
        inner = await open_store("memory://")
        await inner.put(KEY, VALUE)
        plain_first = configuration({"identity": {}}, keyed("secretbox", "one"))
        old = EncryptedStore(inner, configuration(keyed("secretbox", "one"), {"identity": {}}))
        assert (await old.get(KEY))[0].value == VALUE and old.stale(KEY)
        await old.put(KEY, VALUE)
        assert not old.stale(KEY)
        new = EncryptedStore(inner, configuration(keyed("secretbox", "two", "one")))
        assert (await new.get(KEY))[0].value == VALUE and new.stale(KEY)
        await new.put(KEY, VALUE)
        assert (await inner.get(KEY))[0].value.startswith(b"k8s:enc:secretbox:v1:two:")
        with pytest.raises(Undecryptable, match="no matching key was found"):
            await old.get(KEY)
        with pytest.raises(Undecryptable):
            await EncryptedStore(inner, plain_first).get(KEY)
        await inner.put(KEY, VALUE)
        with pytest.raises(Undecryptable, match="no matching prefix"):
            await new.get(KEY)
        await store_close(inner)

    asyncio.run(play())


async def store_close(store):
    await store.close()


@pytest.mark.parametrize("kind", ["aesgcm", "secretbox"])
def test_a_changed_byte_is_noticed(kind):
    async def play():
        inner = await open_store("memory://")
        store = EncryptedStore(inner, configuration(keyed(kind, "one")))
        await store.put(KEY, VALUE)
        kept = bytearray((await inner.get(KEY))[0].value)
        kept[-1] ^= 1
        await inner.put(KEY, bytes(kept))
        with pytest.raises(Undecryptable):
            await store.get(KEY)
        await inner.close()

    asyncio.run(play())


def test_aesgcm_binds_a_value_to_its_place():
    async def play():
        inner = await open_store("memory://")
        store = EncryptedStore(inner, configuration(keyed("aesgcm", "one")))
        await store.put(KEY, VALUE)
        await inner.put("/registry/secrets/other/s", (await inner.get(KEY))[0].value)
        with pytest.raises(Undecryptable):
            await store.get("/registry/secrets/other/s")
        await inner.close()

    asyncio.run(play())


def test_resources_are_chosen_by_name_by_group_and_wholly():
    chosen = configuration(keyed("aesgcm", "one"), resources=("secrets", "widgets.example.com", "*.apps"))
    assert chosen.providers_for("", "secrets") and not chosen.providers_for("", "pods")
    assert chosen.providers_for("apps", "deployments") and chosen.providers_for("example.com", "widgets")
    assert configuration(keyed("aesgcm", "one"), resources=("*.",)).providers_for("", "pods")
    assert configuration(keyed("aesgcm", "one"), resources=("*.*",)).providers_for("x.y", "z")


def test_custom_resources_and_services_are_found_by_their_keys():
    async def play():
        inner = await open_store("memory://")
        every = configuration(keyed("aesgcm", "one"), resources=("services", "widgets.example.com"))
        store = EncryptedStore(inner, every)
        hidden = ("/registry/services/specs/n/s", "/registry/example.com/widgets/n/w")
        for key in (*hidden, "/registry/services/endpoints/n/s", "/registry/example.com/gadgets/n/w"):
            await store.put(key, b"value")
            assert (await inner.get(key))[0].value.startswith(b"k8s:enc") == (key in hidden)
        await inner.close()

    asyncio.run(play())


@pytest.mark.parametrize(
    "providers",
    [[], [{}], [{"rot13": {}}], [{"aescbc": {"keys": []}}],
     [{"aescbc": {"keys": [{"name": "a", "secret": "c2hvcnQ="}]}}],
     [{"secretbox": {"keys": [{"name": "a:b", "secret": KEYS["one"]}]}}], [keyed("aescbc", "one", "one")],
     [{"kms": {"apiVersion": "v1", "name": "k", "endpoint": "unix:///x"}}]],
)  # fmt: skip
def test_configurations_that_cannot_be_used_are_refused_without_showing_keys(providers):
    with pytest.raises(ConfigError) as caught:
        configuration(*providers)
    assert KEYS["one"] not in str(caught.value) and "c2hvcnQ" not in str(caught.value)


def test_a_changed_file_is_taken_into_use_and_a_broken_one_is_not(tmp_path):
    async def play():
        path = tmp_path / "encryption.yaml"

        def write(*providers):
            document = {
                "apiVersion": "apiserver.config.k8s.io/v1",
                "kind": "EncryptionConfiguration",
                "resources": [{"resources": ["secrets"], "providers": list(providers)}],
            }
            path.write_text(json.dumps(document))
            os.utime(path, ns=(0, next(stamps)))

        stamps = iter(range(10**9, 10**10, 10**9))
        write(keyed("aesgcm", "one"))
        inner = await open_store("memory://")
        store = EncryptedStore.open(inner, str(path))
        await store.put(KEY, VALUE)
        assert not store.reload()
        write(keyed("aesgcm", "two", "one"))
        assert store.reload()
        assert (await store.get(KEY))[0].value == VALUE and store.stale(KEY)
        path.write_text("{")
        os.utime(path, ns=(0, next(stamps)))
        assert not store.reload()
        assert (await store.get(KEY))[0].value == VALUE
        await inner.close()

    asyncio.run(play())


def test_secretbox_is_nacls():
    """The vector of NaCl's own tests."""
    key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
    plain = bytes.fromhex(
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f4"
        "1db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52"
        "f0a089bc76897040e082f937763848645e0705"
    )
    box = secretbox.seal(key, nonce, plain)
    assert box.hex().startswith("f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476f")
    assert secretbox.unseal(key, nonce, box) == plain


def test_large_boxes_are_made_as_small_ones(monkeypatch):
    key, nonce, plain = bytes(range(32)), bytes(24), os.urandom(20_000)
    box = secretbox.seal(key, nonce, plain)
    monkeypatch.setattr(secretbox, "NUMPY_FROM_BYTES", 1 << 30)
    assert secretbox.unseal(key, nonce, box) == plain


class FakePlugin:
    """A KMS in memory: wraps by XOR; rotates on demand."""

    def __init__(self):
        self.key_id, self.calls = "1", []

    async def status(self):
        return "ok", self.key_id

    async def encrypt(self, plain, uid):
        self.calls.append("encrypt")
        return Wrapped(self.key_id, bytes(b ^ 0x55 for b in plain), {"note.example.com": b"x"})

    async def decrypt(self, wrapped, uid):
        self.calls.append("decrypt")
        return bytes(b ^ 0x55 for b in wrapped.ciphertext)


def test_kms_wraps_a_seed_once_and_notices_a_new_key():
    async def play():
        plugin = FakePlugin()
        provider = KmsProvider("vault", plugin)
        first, second = [await provider.encrypt(VALUE, b"/a") for _ in range(2)]
        assert first != second and VALUE not in first and plugin.calls == ["encrypt"]
        assert await provider.decrypt(first, b"/a") == (VALUE, False)
        other = KmsProvider("vault", plugin)
        assert (await other.decrypt(first, b"/a"))[0] == VALUE
        assert (await other.decrypt(second, b"/a"))[0] == VALUE
        assert plugin.calls == ["encrypt", "decrypt"]
        plugin.key_id = "2"
        await provider.refresh()
        assert (await provider.decrypt(first, b"/a")) == (VALUE, True)
        assert (await provider.decrypt(await provider.encrypt(VALUE, b"/a"), b"/a"))[1] is False
        from peavine.apiserver.encryption.providers import DecryptionError

        with pytest.raises(DecryptionError):
            await provider.decrypt(first, b"/elsewhere")

    asyncio.run(play())


def test_the_kms_plugin_is_spoken_to_over_grpc(tmp_path):
    import grpc

    from peavine.wire import protobuf

    def field(number, body):
        return protobuf.delimited(protobuf.tag(number, protobuf.BYTES), body)

    def answer(method):
        def handle(request, context):
            parts = {n: request[a:b] for n, _, a, b in protobuf.fields(request)}
            if method == "Status":
                return field(1, b"v2") + field(2, b"ok") + field(3, b"key-1")
            if method == "Encrypt":
                return field(1, parts[1][::-1]) + field(2, b"key-1") + field(3, field(1, b"a.b") + field(2, b"c"))
            assert parts[3] == b"key-1" and 4 in parts
            return field(1, parts[1][::-1])

        return grpc.unary_unary_rpc_method_handler(handle)

    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(2))
    methods = {name: answer(name) for name in ("Status", "Encrypt", "Decrypt")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("v2.KeyManagementService", methods),))
    endpoint = f"unix://{tmp_path}/kms.sock"
    server.add_insecure_port(endpoint)
    server.start()

    async def play():
        plugin = Plugin(endpoint)
        assert await plugin.status() == ("ok", "key-1")
        provider = KmsProvider("vault", plugin)
        stored = await provider.encrypt(VALUE, b"/a")
        assert (await KmsProvider("vault", plugin).decrypt(stored, b"/a"))[0] == VALUE
        await plugin.close()

    try:
        asyncio.run(play())
    finally:
        server.stop(None)
