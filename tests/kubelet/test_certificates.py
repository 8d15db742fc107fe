"""A kubelet's certificates: the first one by a token, later ones before the present one ends, without a restart."""

import asyncio
import base64
import os
import stat
from types import SimpleNamespace

import pytest

from peavine.api.certificates import signing
from peavine.base.clock import REAL, SimulatedClock
from peavine.client.certificates import Refused, request_certificate
from peavine.cmd import pki as pki_module
from peavine.kubelet import certificates as subject
from peavine.kubelet.certificates import CertificateFile, Rotation, client_subject, serving_subject
from peavine.machinery.errors import ApiError

DAY = 24 * 3600.0


class Cluster:
    """An API server that approves and signs everything, or what `refuse` is not; a client of it, too."""

    def __init__(self, pki, clock, refuse=""):
        self.ca = (pki.cert("ca").read_bytes(), pki.key("ca").read_bytes())
        self.clock, self.refuse, self.asked = clock, refuse, []

    def resource(self, api_version, plural):
        return self

    async def create(self, obj):
        self.asked.append(obj["spec"])
        status = {"conditions": [{"type": self.refuse, "status": "True", "message": "no"}]} if self.refuse else {}
        self.made = {**obj, "metadata": {"name": "csr-1", "resourceVersion": "1"}, "status": status}
        return self.made

    async def get(self, name):
        return self.made

    async def watch(self, **options):
        signed = signing.sign(self.asked[-1], *self.ca, self.clock.time())
        yield "BOOKMARK", {"metadata": {"name": "csr-1"}}
        yield "MODIFIED", {**self.made, "status": {"certificate": base64.b64encode(signed.encode()).decode()}}


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return pki_module.ensure_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def clock():
    return SimulatedClock(REAL.time())


def test_a_certificate_is_renewed_between_seventy_and_ninety_percent_of_its_life(pki, clock, tmp_path):
    cluster, renewed = Cluster(pki, clock), []
    file = CertificateFile(tmp_path / "pki", "kubelet-client")
    rotation = Rotation(cluster, file, lambda: client_subject("one"), renewed=lambda: renewed.append(1), clock=clock)

    async def main():
        task = asyncio.ensure_future(rotation.run())
        await clock.advance(1)
        assert len(renewed) == 1 and file.read().common_name == "system:node:one"
        first = file.read().serial
        await clock.advance(365 * DAY * 0.68)
        assert len(renewed) == 1 and file.read().serial == first
        await clock.advance(365 * DAY * 0.24)
        assert len(renewed) == 2 and file.read().serial != first
        task.cancel()

    asyncio.run(main())
    path = os.path.realpath(file.current)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600 and stat.S_IMODE(os.stat(file.directory).st_mode) == 0o700


def test_nodes_do_not_all_ask_at_the_same_time(pki, clock, tmp_path):
    file = CertificateFile(tmp_path, "kubelet-client")
    cluster = Cluster(pki, clock)

    def left():
        return Rotation(cluster, file, lambda: client_subject("one"), clock=clock).seconds_left() / DAY

    asyncio.run(Rotation(cluster, file, lambda: client_subject("one"), clock=clock).renew())
    found = [left() for _ in range(50)]
    assert min(found) >= 365 * 0.7 - 1 and max(found) <= 365 * 0.9 and max(found) - min(found) > 20


def test_a_new_address_asks_for_a_new_serving_certificate_at_once(pki, clock, tmp_path):
    file, names = CertificateFile(tmp_path, "kubelet-server"), ["10.4.7.11"]
    subjects = [None]

    def wanted():
        return subjects[-1]

    rotation = Rotation(Cluster(pki, clock), file, wanted, clock=clock)
    assert asyncio.run(rotation.renew()) is False  # the node knows no address of its own yet
    subjects.append(serving_subject("one", ("one",), tuple(names)))
    assert rotation.seconds_left() == 0.0
    assert asyncio.run(rotation.renew())
    assert file.read().ip_addresses == ("10.4.7.11",) and rotation.seconds_left() > 200 * DAY
    subjects.append(serving_subject("one", ("one",), ("10.4.7.12",)))
    assert rotation.seconds_left() == 0.0


@pytest.mark.parametrize("verdict", ["Denied", "Failed"])
def test_a_request_that_is_refused_says_so_and_is_made_again_later(pki, clock, tmp_path, verdict):
    cluster = Cluster(pki, clock, refuse=verdict)
    file = CertificateFile(tmp_path, "kubelet-client")

    async def main():
        from peavine.client.certificates import new_key

        with pytest.raises(Refused, match=f"{verdict}: no"):
            await request_certificate(cluster, client_subject("one"), new_key())
        rotation = Rotation(cluster, file, lambda: client_subject("one"), clock=clock)
        task = asyncio.ensure_future(rotation.run())
        await clock.advance(1)
        assert file.read() is None
        cluster.refuse = ""
        await clock.advance(10)
        assert file.read() is not None
        task.cancel()

    asyncio.run(main())


def test_bootstrapping_keeps_its_key_until_the_certificate_is_there(pki, clock, tmp_path, monkeypatch):
    """A kubelet that is killed while it waits goes on with the same key; one that has a certificate asks nobody."""
    cluster = Cluster(pki, clock)
    cluster.close = lambda: None
    seen = []

    async def asking(client, wanted, key):
        seen.append((wanted.common_name, key.private_numbers().private_value))
        if len(seen) == 1:
            raise asyncio.CancelledError
        if len(seen) == 2:
            raise ApiError(503, "ServiceUnavailable", "not yet")
        return await request_certificate(cluster, wanted, key)

    monkeypatch.setattr(subject, "request_certificate", asking)
    monkeypatch.setattr(subject, "Client", lambda config, **more: SimpleNamespace(config=config, close=lambda: None))
    kubeconfig, directory = tmp_path / "kubelet.kubeconfig", tmp_path / "pki"
    pki_module.kubeconfig(pki, tmp_path / "bootstrap", "https://127.0.0.1:1", "system:bootstrap:abcdef")

    async def boot():
        task = asyncio.ensure_future(
            subject.bootstrap(str(kubeconfig), str(tmp_path / "bootstrap"), "one", directory, clock=clock)
        )
        for _ in range(100):
            await clock.advance(1)
            if task.done():
                return await task
        raise AssertionError("it waits for ever")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(boot())
    assert not kubeconfig.exists()
    asyncio.run(boot())
    assert len(seen) == 3 and len({key for _, key in seen}) == 1
    assert subject.still_good(kubeconfig, clock) and not (directory / "kubelet-client.key.tmp").exists()
    asyncio.run(boot())
    assert len(seen) == 3
    asyncio.run(clock.advance(366 * DAY))
    assert not subject.still_good(kubeconfig, clock)
