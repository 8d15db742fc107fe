import pytest

from peavine.apiserver.webhooks.client import WebhookError, resolve


class Objects:
    """A lister of what a test gives it: (resource, namespace, name) -> object."""

    def __init__(self, *objects):
        self.objects = objects

    def get(self, group, resource, namespace, name):
        return next((o for r, o in self.objects if r == resource and o["metadata"]["name"] == name), None)

    def list(self, group, resource, namespace=None):
        return [o for r, o in self.objects if r == resource]

    def on_change(self, group, resource, callback):
        pass


SERVICE = ("services", {
    "metadata": {"name": "hook", "namespace": "ns"},
    "spec": {"clusterIP": "192.168.0.9", "ports": [{"name": "https", "port": 443, "targetPort": 8443}]},
})  # fmt: skip


def part(ready, address="172.7.0.5"):
    return ("endpointslices", {
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": 8443}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": ready}}],
    })  # fmt: skip


def to_service(**more):
    return {"service": {"name": "hook", "namespace": "ns", "path": "/check", **more}}


def test_a_service_is_reached_at_a_ready_endpoint_under_its_own_name():
    target = resolve(Objects(SERVICE, part(True)), to_service(), 10)
    assert (target.host, target.port, target.server_name) == ("172.7.0.5", 8443, "hook.ns.svc")
    assert target.path == "/check?timeout=10s"
    assert target.url == "https://hook.ns.svc:443/check?timeout=10s"


def test_without_a_ready_endpoint_the_cluster_ip_is_tried():
    target = resolve(Objects(SERVICE, part(False)), to_service(), 10)
    assert (target.host, target.port) == ("192.168.0.9", 443)


@pytest.mark.parametrize(
    ("objects", "client", "says"),
    [
        ((), to_service(), 'service "hook" not found'),
        ((SERVICE,), to_service(port=8080), 'no service port 8080 found for service "hook"'),
    ],
)
def test_a_service_that_is_not_there_is_said_to_be_so(objects, client, says):
    with pytest.raises(WebhookError, match=says):
        resolve(Objects(*objects), client, 10)


def test_a_url_keeps_its_query():
    target = resolve(Objects(), {"url": "https://example.com:8443/a?b=c"}, 2.5)
    assert (target.host, target.port, target.path) == ("example.com", 8443, "/a?b=c&timeout=2.5s")


def test_a_ca_bundle_that_is_none_is_told():
    with pytest.raises(WebhookError, match="unable to load root certificates"):
        resolve(Objects(), {"url": "https://x/", "caBundle": "bm90IGEgY2VydA=="}, 1)
