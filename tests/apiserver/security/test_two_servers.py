"""Two API servers on one store: numbers are given once, quotas hold, tokens and roles count on both."""

import asyncio
import contextlib

from peavine.store import open_store
from tests.apiserver.inside import serving

PLAIN = {"disable_admission_plugins": ("ServiceAccount",), "enable_aggregation": False}


class Shared:
    """A store that outlives the servers on it: they close what they think is theirs."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    async def close(self):
        pass


@contextlib.asynccontextmanager
async def two(tmp_path):
    store = await open_store("memory://")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with serving(tmp_path / "a", Shared(store), **PLAIN) as one:
        async with serving(tmp_path / "b", Shared(store), **PLAIN) as other:
            yield one, other
    await store.close()


def pod(name):
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "10m"}}}
    return {"metadata": {"name": name}, "spec": {"containers": [container]}}


async def fetch(api, path, good):
    for _ in range(500):
        answer = await api("GET", path)
        if answer.status == 200 and good(answer.json):
            return answer.json
        await asyncio.sleep(0.01)
    raise AssertionError(f"{path} did not become as expected")


def test_a_hundred_concurrent_creates_through_two_servers_never_exceed_a_quota(tmp_path):
    async def main():
        async with two(tmp_path) as servers:
            one = servers[0]
            quotas = "/api/v1/namespaces/default/resourcequotas"
            hard = {"pods": "10", "requests.cpu": "1"}
            assert (await one("POST", quotas, {"metadata": {"name": "q"}, "spec": {"hard": hard}})).status == 201
            status = {"status": {"hard": hard, "used": {"pods": "0", "requests.cpu": "0"}}}
            merge = {"Content-Type": "application/merge-patch+json"}
            assert (await one("PATCH", f"{quotas}/q/status", status, merge)).status == 200
            for api in servers:
                await fetch(api, f"{quotas}/q", lambda q: q.get("status", {}).get("used"))
            path = "/api/v1/namespaces/default/pods"
            answers = await asyncio.gather(*(servers[n % 2]("POST", path, pod(f"p{n}")) for n in range(100)))
            codes = [answer.status for answer in answers]
            assert codes.count(201) == 10 and codes.count(403) == 90
            assert (await one("GET", f"{quotas}/q")).json["status"]["used"] == {"pods": "10", "requests.cpu": "100m"}

    asyncio.run(main())


def test_services_made_through_two_servers_at_once_share_no_address_and_no_port(tmp_path):
    async def main():
        async with two(tmp_path) as servers:
            path = "/api/v1/namespaces/default/services"

            def service(number):
                return {"metadata": {"name": f"s{number}"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}

            answers = await asyncio.gather(*(servers[n % 2]("POST", path, service(n)) for n in range(40)))
            assert [a.status for a in answers] == [201] * 40, [a.json.get("message") for a in answers]
            specs = [answer.json["spec"] for answer in answers]
            assert len({spec["clusterIP"] for spec in specs}) == 40
            assert len({spec["ports"][0]["nodePort"] for spec in specs}) == 40
            chosen = specs[0]["clusterIP"]
            body = {"metadata": {"name": "late"}, "spec": {"clusterIP": chosen, "ports": [{"port": 80}]}}
            refused = await servers[1]("POST", path, body)
            assert refused.status == 422 and "provided IP is already allocated" in refused.json["message"]

    asyncio.run(main())


def test_a_role_given_on_one_server_counts_on_the_other(tmp_path):
    async def main():
        async with two(tmp_path) as (one, other):
            path = "/api/v1/namespaces/default/configmaps"
            assert (await other("GET", path, token="user-token")).status == 403
            base = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
            binding = {
                "metadata": {"name": "b"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
                "subjects": [{"kind": "User", "name": "alice", "apiGroup": "rbac.authorization.k8s.io"}],
            }
            rules = [{"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}]
            role = {"metadata": {"name": "reader"}, "rules": rules}
            assert (await one("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role)).status == 201
            assert (await one("POST", f"{base}/rolebindings", binding)).status == 201
            for _ in range(100):
                if (await other("GET", path, token="user-token")).status == 200:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError("not within a second")

    asyncio.run(main())
