"""Mistakes that Kubernetes has made and this server does not repeat: one test for each, named by its CVE.

Some lie beside what they are about; the last test here finds them all.
"""

import asyncio
import json
from pathlib import Path

import pytest

from peavine.api.catalogue import CATALOGUE
from peavine.apiserver.admission import build_chain
from peavine.apiserver.authorization.attributes import Attributes
from peavine.apiserver.authorization.build import build_authorizer
from peavine.machinery.names import GVK
from peavine.machinery.patches import apply_json_patch
from tests.apiserver.inside import read_head, request_bytes, serving
from tests.apiserver.security.fakes import Objects
from tests.apiserver.security.test_admission import pod, refusal, review, run

PLAIN = {"disable_admission_plugins": ("ServiceAccount",), "enable_aggregation": False}
USER = "user-token"


def with_server(tmp_path, scenario, **settings):
    async def main():
        async with serving(tmp_path, **{**PLAIN, **settings}) as api:
            await scenario(api)

    asyncio.run(main())


def definition(scope):
    names = {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    spec = {"group": "example.com", "scope": scope, "names": names, "versions": [version]}
    return {"metadata": {"name": "widgets.example.com"}, "spec": spec}


async def grant(api, verbs, resources, namespace=None):
    """Let alice do this, in a namespace or everywhere."""
    kind, home = ("Role", f"/namespaces/{namespace}") if namespace else ("ClusterRole", "")
    base = f"/apis/rbac.authorization.k8s.io/v1{home}/{kind.lower()}"
    rules = [{"verbs": verbs, "apiGroups": ["*"], "resources": resources}]
    assert (await api("POST", f"{base}s", {"metadata": {"name": "given"}, "rules": rules})).status == 201
    binding = {
        "metadata": {"name": "given"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "given"},
        "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}],
    }
    assert (await api("POST", f"{base}bindings", binding)).status == 201


async def defined(api):
    for _ in range(200):
        if (await api("GET", "/apis/example.com/v1")).status == 200:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the definition was not established")


def test_cve_2019_11247_a_namespaced_path_does_not_reach_cluster_wide_custom_resources(tmp_path):
    async def scenario(api):
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        assert (await api("POST", definitions, definition("Cluster"))).status == 201
        await defined(api)
        widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
        assert (await api("POST", "/apis/example.com/v1/widgets", widget)).status == 201
        await grant(api, ["*"], ["*"], "default")
        inside = "/apis/example.com/v1/namespaces/default/widgets"
        for path in (inside, inside + "/w"):
            for method in ("GET", "DELETE"):
                assert (await api(method, path, token=USER)).status in (403, 404, 405)
        assert (await api("GET", "/apis/example.com/v1/widgets/w", token=USER)).status == 403
        assert (await api("GET", "/apis/example.com/v1/widgets/w")).status == 200

    with_server(tmp_path, scenario)


def test_cve_2022_3162_dots_in_a_path_do_not_lead_to_another_resource(tmp_path):
    async def scenario(api):
        await grant(api, ["*"], ["configmaps"])
        for path in (
            "/api/v1/namespaces/default/configmaps/../secrets",
            "/api/v1/namespaces/default/configmaps/%2e%2e/secrets",
            "/api/v1/namespaces/default/configmaps/..%2fsecrets",
            "/api/v1/namespaces/default/configmaps//../secrets?watch=1",
            "/api/v1/configmaps/../secrets",
        ):
            answer = await api("GET", path, token=USER)
            assert answer.status in (301, 400, 403, 404), (path, answer.status)

    with_server(tmp_path, scenario)


def test_cve_2021_25735_admission_sees_the_object_that_is_stored_not_one_the_client_made(tmp_path):
    """The old object that admission compares with comes from the store, whatever the update says of it."""

    async def scenario(api):
        seen = []
        chain = api.server.registry.chain
        original = chain.validate

        async def watching(req):
            if req.gvr.resource == "nodes" and req.old is not None:
                seen.append((req.old["metadata"].get("labels"), req.obj["metadata"].get("labels")))
            await original(req)

        chain.validate = watching
        node = {"metadata": {"name": "n", "labels": {"a": "1"}}}
        assert (await api("POST", "/api/v1/nodes", node)).status == 201
        node["metadata"]["labels"] = {"a": "2"}
        assert (await api("PUT", "/api/v1/nodes/n", node)).status == 200
        assert (await api("PUT", "/api/v1/nodes/n/status", node)).status == 200
        assert [old for old, _ in seen] == [{"a": "1"}, {"a": "2"}]

    with_server(tmp_path, scenario)


def test_cve_2018_1002105_a_refused_upgrade_leaves_no_raw_connection_to_the_backend(tmp_path):
    """What follows on the client's connection is read as a request of its own, with its own authorization."""
    from tests.apiserver.test_objects import PODS
    from tests.apiserver.test_proxying import backend, running

    async def scenario(api):
        async with backend() as (port, reached):
            await running(api, "p", port)
            reader, writer = await api.open()
            upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
            writer.write(request_bytes("GET", f"{PODS}/p:1/proxy/up", None, upgrade))  # nobody listens there
            status, _ = await read_head(reader)
            assert status >= 400
            before = len(reached)
            writer.write(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            assert len(reached) == before

    with_server(tmp_path, scenario)


def test_cve_2020_8559_redirects_of_a_kubelet_are_not_followed(tmp_path):
    from tests.apiserver.test_objects import PODS
    from tests.apiserver.test_proxying import backend, running

    async def scenario(api):
        async with backend() as (port, reached):
            await running(api, "p", port)
            answer = await api("GET", f"{PODS}/p:{port}/proxy/moved")
            assert answer.status == 302 and [e.info.path for e in reached] == ["/moved"]

    with_server(tmp_path, scenario)


def test_cve_2019_1002100_a_json_patch_has_an_end():
    from peavine.machinery.errors import ApiError

    with pytest.raises(ApiError) as caught:
        apply_json_patch({}, [{"op": "test", "path": "", "value": {}}] * 10_001)
    assert caught.value.code == 413
    document = {"a": ["x" * 1000]}
    copies = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 40  # doubles each time
    with pytest.raises(ApiError) as caught:
        apply_json_patch(document, copies)
    assert caught.value.code in (413, 422)


def test_cve_2019_11253_a_yaml_bomb_costs_nothing(tmp_path):
    async def scenario(api):
        bomb = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"\n".join(
            b"%c: &%c [%b]" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("k"))
        )
        headers = {"Content-Type": "application/yaml"}
        answer = await api("POST", "/api/v1/namespaces/default/configmaps", bomb, headers)
        assert answer.status == 400 and "excessive aliasing" in answer.json["message"]

    with_server(tmp_path, scenario)


@pytest.fixture
def objects():
    found = Objects()
    found.put("", "namespaces", {"metadata": {"name": "team"}, "status": {"phase": "Active"}})
    annotations = {"kubernetes.io/enforce-mountable-secrets": "true"}
    account = {"metadata": {"name": "default", "namespace": "team", "annotations": annotations}}
    found.put("", "serviceaccounts", {**account, "secrets": []})
    return found


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
def test_cve_2023_2727_image_rules_hold_for_every_kind_of_container(objects, kind):
    chain = build_chain(objects, objects, enabled=["AlwaysPullImages"])
    new = pod(serviceAccountName="default", **{kind: [{"name": "x", "image": "new", "imagePullPolicy": "Never"}]})
    sub = "ephemeralcontainers" if kind == "ephemeralContainers" else ""
    operation, old = ("UPDATE", pod()) if sub else ("CREATE", None)
    made = run(chain, review(new, operation=operation, old=old, subresource=sub))
    assert made["spec"][kind][0]["imagePullPolicy"] == "Always"


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
@pytest.mark.parametrize("way", ["env", "envFrom"])
def test_cve_2023_2728_and_2024_3177_mountable_secrets_hold_for_every_container_and_way(objects, kind, way):
    sources = {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}}],
        "envFrom": [{"secretRef": {"name": "other"}}],
    }
    new = pod(serviceAccountName="default", **{kind: [{"name": "x", "image": "i", way: sources[way]}]})
    sub = "ephemeralcontainers" if kind == "ephemeralContainers" else ""
    operation, old = ("UPDATE", pod()) if sub else ("CREATE", None)
    error = refusal(build_chain(objects, objects), review(new, operation=operation, old=old, subresource=sub))
    assert error.code == 403 and "does not reference that secret" in error.message


def test_cve_2023_2431_a_local_seccomp_profile_must_be_named():
    kind = CATALOGUE.kind(GVK("", "v1", "Pod"))
    obj = {"apiVersion": "v1", "kind": "Pod", **pod(securityContext={"seccompProfile": {"type": "Localhost"}})}
    obj["metadata"].update(uid="u", creationTimestamp="2026-01-01T00:00:00Z")
    kind.default(obj)
    kind.prepare_create(obj)
    assert any("localhostProfile" in str(problem) for problem in kind.validate_create(obj))


def test_checkpoints_are_a_right_of_their_own():
    """Its own kind of access to nodes; the roles for reading metrics and logs do not have it."""
    from peavine.apiserver.bootstrap import policy

    objects = Objects()
    for obj in policy.roles() + policy.bindings():
        objects.put(policy.GROUP, obj["kind"].lower() + "s", obj)
    authorizer = build_authorizer(objects)
    from peavine.apiserver.authentication import ANONYMOUS, User

    monitoring, anybody = ("system:monitoring",), ("system:authenticated",)
    for user in (ANONYMOUS, User("prometheus", groups=monitoring), User("jane", groups=anybody)):
        for subresource in ("checkpoint", "proxy"):
            assert not authorizer.authorize(Attributes(user, "create", "", "", "v1", "nodes", subresource, "n")).allowed


def test_cve_2024_7598_a_namespace_keeps_its_network_policies_until_its_pods_are_gone(monkeypatch):
    from types import SimpleNamespace

    from peavine.controllers import namespace as subject
    from peavine.machinery.names import GVR

    left = {"pods": [{"metadata": {"name": "p"}}], "networkpolicies": [{"metadata": {"name": "n"}}]}
    deleted = []

    class Endpoint:
        def __init__(self, name):
            self.name = name

        async def list(self, namespace):
            return {"items": list(left[self.name])}

        async def delete_collection(self, namespace, **options):
            deleted.append(self.name)

    verbs = ("list", "delete", "deletecollection")
    served = [
        SimpleNamespace(gvr=GVR("networking.k8s.io", "v1", "networkpolicies"), namespaced=True, verbs=verbs),
        SimpleNamespace(gvr=GVR("", "v1", "pods"), namespaced=True, verbs=verbs),
    ]

    async def listed(client):
        return served

    monkeypatch.setattr(subject, "served_resources", listed)
    controller = SimpleNamespace(client=SimpleNamespace(resource=lambda api_version, name: Endpoint(name)))
    asyncio.run(subject._Emptying(controller, "team").run())
    assert deleted == ["pods"]  # it is still there, terminating
    left["pods"] = []
    asyncio.run(subject._Emptying(controller, "team").run())
    assert deleted == ["pods", "networkpolicies"]


def test_the_servers_own_errors_show_no_secrets(tmp_path):
    """A body that does not decode comes back in no message and no log."""

    async def scenario(api):
        body = json.dumps({"metadata": {"name": "s"}, "data": {"k": "not base64: hunter2"}}).encode()
        answer = await api("POST", "/api/v1/namespaces/default/secrets", body)
        assert answer.status == 400 and "hunter2" not in answer.body.decode()

    with_server(tmp_path, scenario)


def test_cve_2024_10220_git_volumes_are_not_mounted():
    from peavine.kubelet.volumes.manager import VolumeManager
    from peavine.kubelet.volumes.source import VolumeError

    obj = pod(volumes=[{"name": "g", "gitRepo": {"repository": "https://example.com/evil.git"}}])
    with pytest.raises(VolumeError, match="git volumes are disabled"):
        asyncio.run(VolumeManager(None).set_up(obj))  # type: ignore[arg-type]


def test_cve_2022_3172_an_aggregated_server_cannot_send_clients_elsewhere(tmp_path):
    """Its redirects stay here: a client would follow them with its credentials."""
    from peavine.apiserver.http.tls import server_context
    from peavine.cmd.pki import ensure_pki
    from tests.apiserver.test_aggregation import SERVICES, available
    from tests.apiserver.test_proxying import backend

    async def scenario(api):
        pki = ensure_pki(tmp_path / "keys")
        tls = server_context(str(pki.cert("apiserver")), str(pki.key("apiserver")))
        async with backend(tls) as (port, reached):
            spec = {"type": "ExternalName", "externalName": "localhost"}
            service = {"metadata": {"name": "other"}, "spec": spec}
            assert (await api("POST", "/api/v1/namespaces/default/services", service)).status == 201
            spec = {
                "group": "metrics.example.com",
                "version": "v1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
                "service": {"namespace": "default", "name": "other", "port": port},
            }
            body = {"metadata": {"name": "v1.metrics.example.com"}, "spec": spec}
            assert (await api("POST", SERVICES, body)).status == 201
            await available(api, "v1.metrics.example.com", "True")
            answer = await api("GET", "/apis/metrics.example.com/v1/moved")
            assert answer.status == 502 and "location" not in answer.headers
            assert any(exchange.info.path.endswith("/moved") for exchange in reached)

    with_server(tmp_path, scenario, enable_aggregation=True)


def test_cve_2025_5187_a_node_cannot_have_itself_deleted_to_come_back_unmarked(tmp_path):
    """By an owner that does not exist: the collector would delete the Node, and its kubelet would make it anew."""

    async def scenario(api):
        taint = {"key": "dedicated", "effect": "NoSchedule"}
        node = {"metadata": {"name": "n"}, "spec": {"taints": [taint]}}
        assert (await api("POST", "/api/v1/nodes", node)).status == 201
        own = {"Impersonate-User": "system:node:n", "Impersonate-Group": "system:nodes"}
        patch = {**own, "Content-Type": "application/merge-patch+json"}
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "x"}
        for path in ("/api/v1/nodes/n", "/api/v1/nodes/n/status"):
            owned = {"metadata": {"ownerReferences": [owner]}}
            await api("PATCH", path, owned, patch)
            assert "ownerReferences" not in (await api("GET", "/api/v1/nodes/n")).json["metadata"]
        assert (await api("PATCH", "/api/v1/nodes/n", {"spec": {"taints": []}}, patch)).status == 403
        assert (await api("DELETE", "/api/v1/nodes/n", None, own)).status == 403
        born = {**own, "Impersonate-User": "system:node:m"}
        made = await api("POST", "/api/v1/nodes", {"metadata": {"name": "m", "ownerReferences": [owner]}}, born)
        assert made.status == 403 and "ownerReferences" in made.json["message"]
        labels = {"metadata": {"labels": {"example.com/own": "yes"}}}
        assert (await api("PATCH", "/api/v1/nodes/n", labels, patch)).status == 200  # it may do what is its own

    with_server(tmp_path, scenario)


LESSONS = (
    "2018_1002105 2019_11247 2019_11253 2019_1002100 2020_8554 2020_8555 2020_8558 2020_8559 2021_25735 2021_25740 "
    "2021_25741 2021_25743 2022_3162 2022_3172 2022_3294 2023_2431 2023_2727 2023_2728 2024_3177 2024_7598 2024_10220 "
    "2025_0426 2025_5187"
)


def test_every_lesson_has_its_test():
    tests = Path(__file__).parents[2]
    names = "\n".join(
        line for path in tests.rglob("test_*.py") for line in path.read_text().splitlines() if "def test_cve_" in line
    )
    assert [lesson for lesson in LESSONS.split() if lesson not in names] == []
