"""Who may do what: RBAC against the bootstrap policy, nodes, escalation, reviews."""

import asyncio

import pytest

from peavine.apiserver.authentication import User
from peavine.apiserver.authorization.attributes import Attributes, decide, refusal
from peavine.apiserver.authorization.build import build_authorizer
from peavine.apiserver.authorization.escalation import EscalationCheck, covers
from peavine.apiserver.authorization.reviews import Reviews
from peavine.apiserver.bootstrap import policy
from peavine.machinery.errors import ApiError
from tests.apiserver.security.fakes import Objects

RBAC = "rbac.authorization.k8s.io"


def fresh():
    objects = Objects()
    for obj in policy.roles() + policy.bindings():
        objects.put(RBAC, obj["kind"].lower() + "s", obj)
    return objects


@pytest.fixture
def objects():
    return fresh()


@pytest.fixture
def authorizer(objects):
    return build_authorizer(objects)


def user(name, *groups):
    return User(name, groups=(*groups, "system:authenticated"))


def may(authorizer, who, verb, resource, namespace="", name="", group=""):
    resource, _, subresource = resource.partition("/")
    return authorizer.authorize(Attributes(who, verb, namespace, group, "v1", resource, subresource, name)).allowed


def bind(objects, role, who, namespace=None, kind="ClusterRole", subject_kind="User"):
    binding = {
        "metadata": {"name": f"{role}-{who}", **({"namespace": namespace} if namespace else {})},
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": role},
        "subjects": [{"kind": subject_kind, "name": who, "apiGroup": RBAC}],
    }
    return objects.put(RBAC, "rolebindings" if namespace else "clusterrolebindings", binding)


MASTER = user("kubernetes-admin", "system:masters")
SCHEDULER, MANAGER = user("system:kube-scheduler"), user("system:kube-controller-manager")
NOBODY = user("jane")


@pytest.mark.parametrize(
    ("who", "verb", "resource", "group", "expected"),
    [
        (MASTER, "delete", "nodes", "", True),
        (MASTER, "impersonate", "users", "", True),
        (SCHEDULER, "create", "pods/binding", "", True),
        (SCHEDULER, "create", "pods", "", False),
        (SCHEDULER, "get", "secrets", "", False),
        (SCHEDULER, "patch", "pods/status", "", True),
        (MANAGER, "list", "anything", "example.com", True),
        (MANAGER, "get", "pods", "", False),
        (MANAGER, "create", "serviceaccounts/token", "", True),
        (user("system:kube-proxy"), "list", "endpointslices", "discovery.k8s.io", True),
        (user("system:kube-proxy"), "get", "secrets", "", False),
        (user("system:serviceaccount:kube-system:generic-garbage-collector"), "delete", "widgets", "example.com", True),
        (user("system:serviceaccount:kube-system:deployment-controller"), "create", "replicasets", "apps", True),
        (user("system:serviceaccount:kube-system:deployment-controller"), "delete", "pods", "", False),
        (user("system:serviceaccount:kube-system:disruption-controller"), "get", "widgets/scale", "example.com", True),
        (user("system:serviceaccount:other:deployment-controller"), "create", "replicasets", "apps", False),
        (NOBODY, "create", "selfsubjectaccessreviews", "authorization.k8s.io", True),
        (NOBODY, "create", "subjectaccessreviews", "authorization.k8s.io", False),
        (NOBODY, "list", "pods", "", False),
    ],
)
def test_the_bootstrap_policy_answers(authorizer, who, verb, resource, group, expected):
    assert may(authorizer, who, verb, resource, "default", group=group) is expected


def test_paths_are_matched_exactly_or_by_prefix(authorizer):
    def path(who, path, verb="get"):
        return authorizer.authorize(Attributes(who, verb, path=path, is_resource=False)).allowed

    assert path(NOBODY, "/apis/apps/v1") and path(NOBODY, "/version") and path(NOBODY, "/healthz")
    assert not path(NOBODY, "/metrics") and not path(NOBODY, "/apis", "post")
    anonymous = User("system:anonymous", groups=("system:unauthenticated",))
    assert path(anonymous, "/livez") and not path(anonymous, "/api")
    assert path(user("prometheus", "system:monitoring"), "/metrics")


def test_a_role_binding_grants_in_its_namespace_only(objects, authorizer):
    objects.put(
        RBAC,
        "clusterroles",
        {
            "metadata": {"name": "reader"},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log"]}],
        },
    )
    bind(objects, "reader", "jane", "team")
    assert may(authorizer, NOBODY, "get", "pods", "team")
    assert may(authorizer, NOBODY, "get", "pods/log", "team")
    assert not may(authorizer, NOBODY, "get", "pods/exec", "team")
    assert not may(authorizer, NOBODY, "get", "pods", "other")
    assert not may(authorizer, NOBODY, "get", "pods")
    assert not may(authorizer, NOBODY, "list", "pods", "team")


def test_changes_of_roles_and_bindings_count_at_once(objects, authorizer):
    binding = bind(objects, "later", "jane", "team", kind="Role")
    decision = authorizer.authorize(Attributes(NOBODY, "get", "team", "", "v1", "pods"))
    assert not decision.allowed and decision.reason == f'RBAC: role.{RBAC} "later" not found'
    role = {"metadata": {"name": "later", "namespace": "team"}}
    objects.put(RBAC, "roles", {**role, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["pods"]}]})
    decision = authorizer.authorize(Attributes(NOBODY, "get", "team", "", "v1", "pods"))
    assert decision.reason == 'RBAC: allowed by RoleBinding "later-jane/team" of Role "later" to User "jane"'
    objects.put(RBAC, "roles", {**role, "rules": []})
    assert not may(authorizer, NOBODY, "get", "pods", "team")
    objects.put(RBAC, "roles", {**role, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["*"]}]})
    assert may(authorizer, NOBODY, "get", "secrets", "team")
    objects.remove(RBAC, "rolebindings", "team", binding["metadata"]["name"])
    assert not may(authorizer, NOBODY, "get", "secrets", "team")


def test_resource_names_limit_to_these_objects(objects, authorizer):
    objects.put(
        RBAC,
        "clusterroles",
        {
            "metadata": {"name": "one"},
            "rules": [
                {"verbs": ["get", "update"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"]}
            ],
        },
    )
    bind(objects, "one", "jane")
    assert may(authorizer, NOBODY, "get", "configmaps", "x", "mine")
    assert not may(authorizer, NOBODY, "get", "configmaps", "x", "other")
    assert not may(authorizer, NOBODY, "list", "configmaps", "x")


def test_a_subject_with_many_roles_gets_the_same_answers(objects, authorizer):
    for number in range(30):
        rules = [{"verbs": ["get"], "apiGroups": ["example.com"], "resources": [f"things{number}"]}]
        objects.put(RBAC, "clusterroles", {"metadata": {"name": f"r{number}"}, "rules": rules})
        bind(objects, f"r{number}", "jane")
    assert all(may(authorizer, NOBODY, "get", f"things{n}", "x", group="example.com") for n in range(30))
    assert not may(authorizer, NOBODY, "get", "things30", "x", group="example.com")
    assert not may(authorizer, NOBODY, "list", "things3", "x", group="example.com")


def test_the_words_of_a_refusal():
    attributes = Attributes(NOBODY, "get", "default", "apps", "v1", "deployments", "scale", "web")
    assert refusal(attributes) == (
        'User "jane" cannot get resource "deployments/scale" in API group "apps" in the namespace "default"'
    )
    assert refusal(Attributes(NOBODY, "get", path="/metrics", is_resource=False)) == (
        'User "jane" cannot get path "/metrics"'
    )


NODE = user("system:node:one", "system:nodes")


def pod(name, node, **spec):
    return {"metadata": {"name": name, "namespace": "team", "uid": name}, "spec": {"nodeName": node, **spec}}


@pytest.fixture
def nodes(objects):
    volumes = [
        {"name": "s", "secret": {"secretName": "mounted"}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "p", "projected": {"sources": [{"configMap": {"name": "settings"}}, {"serviceAccountToken": {}}]}},
    ]
    container = {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "from-env", "key": "k"}}}],
        "envFrom": [{"configMapRef": {"name": "env-map"}}],
    }
    spec = {"serviceAccountName": "web", "volumes": volumes, "containers": [container]}
    objects.put("", "pods", pod("mine", "one", **spec, imagePullSecrets=[{"name": "pull"}]))
    objects.put("", "pods", pod("theirs", "two", volumes=[{"name": "s", "secret": {"secretName": "other"}}]))
    objects.put(
        "",
        "persistentvolumes",
        {
            "metadata": {"name": "pv"},
            "spec": {
                "claimRef": {"namespace": "team", "name": "data"},
                "csi": {
                    "nodePublishSecretRef": {"namespace": "storage", "name": "csi"},
                    "controllerPublishSecretRef": {"namespace": "storage", "name": "controller"},
                },
            },
        },
    )
    return objects


@pytest.mark.parametrize("name", ["mounted", "from-env", "pull"])
def test_a_node_reads_the_secrets_of_its_pods(nodes, authorizer, name):
    assert may(authorizer, NODE, "get", "secrets", "team", name)
    assert may(authorizer, NODE, "watch", "secrets", "team", name)
    assert not may(authorizer, user("system:node:two", "system:nodes"), "get", "secrets", "team", name)
    assert not may(authorizer, NODE, "update", "secrets", "team", name)
    assert not may(authorizer, NODE, "get", "secrets", "other", name)


def test_a_stolen_node_certificate_touches_only_its_own_node_and_pods(nodes, authorizer):
    for name in ("other", "controller", ""):
        assert not may(authorizer, NODE, "get", "secrets", "team", name)
    assert not may(authorizer, NODE, "list", "secrets", "team")
    assert not may(authorizer, NODE, "list", "secrets")
    assert may(authorizer, NODE, "get", "secrets", "storage", "csi")
    assert not may(authorizer, NODE, "get", "secrets", "storage", "controller")
    assert may(authorizer, NODE, "get", "configmaps", "team", "settings")
    assert may(authorizer, NODE, "get", "configmaps", "team", "env-map")
    assert may(authorizer, NODE, "get", "persistentvolumes", "", "pv")
    assert not may(authorizer, NODE, "list", "persistentvolumes")
    assert may(authorizer, NODE, "get", "persistentvolumeclaims", "team", "data")
    assert may(authorizer, NODE, "create", "serviceaccounts/token", "team", "web")
    assert not may(authorizer, NODE, "create", "serviceaccounts/token", "team", "other")
    assert may(authorizer, NODE, "get", "pods", "team", "mine")
    assert not may(authorizer, NODE, "get", "pods", "team", "theirs")
    assert not may(authorizer, NODE, "list", "pods")
    assert may(authorizer, NODE, "get", "nodes", "", "one") and not may(authorizer, NODE, "get", "nodes", "", "two")
    assert not may(authorizer, NODE, "list", "nodes")
    assert not may(authorizer, NODE, "delete", "nodes", "", "one")
    lease = {"group": "coordination.k8s.io"}
    assert may(authorizer, NODE, "update", "leases", "kube-node-lease", "one", **lease)
    assert not may(authorizer, NODE, "update", "leases", "kube-node-lease", "two", **lease)
    assert not may(authorizer, NODE, "get", "leases", "kube-system", "kube-scheduler", **lease)
    assert not may(authorizer, NODE, "create", "clusterrolebindings", group=RBAC)


def test_a_node_lists_pods_of_its_own_only(nodes, authorizer):
    def lists(selector, verb="watch"):
        attributes = Attributes(NODE, verb, "", "", "v1", "pods", field_selector=selector)
        return authorizer.authorize(attributes).allowed

    assert lists("spec.nodeName=one") and lists("status.phase!=Failed,spec.nodeName==one")
    assert not lists("spec.nodeName=two") and not lists("spec.nodeName!=one") and not lists("")


def test_a_node_reads_its_own_pod_certificate_requests_only(objects, authorizer):
    group = "certificates.k8s.io"
    for name, node in (("a", "one"), ("b", "two")):
        objects.put(group, "podcertificaterequests", {
            "metadata": {"name": name, "namespace": "team"}, "spec": {"nodeName": node}})  # fmt: skip
    assert may(authorizer, NODE, "get", "podcertificaterequests", "team", "a", group)
    assert not may(authorizer, NODE, "get", "podcertificaterequests", "team", "b", group)
    assert not may(authorizer, NODE, "list", "podcertificaterequests", "team", group=group)
    assert not may(authorizer, NODE, "update", "podcertificaterequests/status", "team", "a", group)


def test_what_a_pod_referred_to_is_closed_when_the_pod_is_gone(nodes, authorizer):
    nodes.put("", "pods", pod("second", "one", imagePullSecrets=[{"name": "pull"}]))
    nodes.remove("", "pods", "team", "mine")
    assert may(authorizer, NODE, "get", "secrets", "team", "pull")
    assert not may(authorizer, NODE, "get", "secrets", "team", "mounted")
    assert not may(authorizer, NODE, "get", "persistentvolumes", "", "pv")
    nodes.remove("", "pods", "team", "second")
    assert authorizer.graph._by_node.get("one") is None


def test_mirror_pods_open_nothing(objects, authorizer):
    mirror = pod("static", "one", imagePullSecrets=[{"name": "pull"}])
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    objects.put("", "pods", mirror)
    assert not may(authorizer, NODE, "get", "secrets", "team", "pull")
    assert may(authorizer, NODE, "get", "pods", "team", "static")


def test_covering_is_by_the_smallest_pieces():
    held = [
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get"], "apiGroups": ["*"], "resources": ["*/scale"]},
        {"verbs": ["get"], "nonResourceURLs": ["/logs/*"]},
    ]
    assert covers(held, [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}])[0]
    assert covers(held, [{"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments/scale"]}])[0]
    assert covers(held, [{"verbs": ["get"], "nonResourceURLs": ["/logs/x"]}])[0]
    good, missing = covers(held, [{"verbs": ["get", "watch"], "apiGroups": [""], "resources": ["pods"]}])
    assert not good and missing == [{"verbs": ["watch"], "apiGroups": [""], "resources": ["pods"]}]
    assert not covers(held, [{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}])[0]
    narrow = [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]
    assert not covers(narrow, [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])[0]


def test_nobody_grants_what_they_do_not_hold(objects, authorizer):
    check = EscalationCheck(authorizer.rbac, authorizer)
    objects.put(
        RBAC,
        "roles",
        {
            "metadata": {"name": "own", "namespace": "team"},
            "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
        },
    )
    bind(objects, "own", "jane", "team", kind="Role")
    role = {"metadata": {"name": "new", "namespace": "team"}}
    small = {**role, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]}
    large = {**role, "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]}
    asyncio.run(check.role(NOBODY, small, None))
    with pytest.raises(ApiError) as caught:
        asyncio.run(check.role(NOBODY, large, None))
    assert caught.value.message == (
        f'roles.{RBAC} "new" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC '
        'permissions not currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["list"]}'
    )
    asyncio.run(check.role(MASTER, large, None))
    asyncio.run(check.role(NOBODY, {**large, "metadata": {**role["metadata"], "labels": {"a": "b"}}}, large))
    binding = {
        "metadata": {"name": "b", "namespace": "team"},
        "subjects": [],
        "roleRef": {"kind": "ClusterRole", "name": "cluster-admin"},
    }
    with pytest.raises(ApiError):
        asyncio.run(check.binding(NOBODY, binding, None))
    objects.put(
        RBAC,
        "clusterroles",
        {
            "metadata": {"name": "binder"},
            "rules": [
                {
                    "verbs": ["bind"],
                    "apiGroups": [RBAC],
                    "resources": ["clusterroles"],
                    "resourceNames": ["cluster-admin"],
                }
            ],
        },
    )
    bind(objects, "binder", "jane", "team")
    asyncio.run(check.binding(NOBODY, binding, None))
    with pytest.raises(ApiError):
        asyncio.run(
            check.role(
                NOBODY,
                {"metadata": {"name": "x"}, "rules": None, "aggregationRule": {"clusterRoleSelectors": [{}]}},
                None,
            )
        )


class Tokens:
    async def review(self, token, audiences):
        return (NOBODY, audiences) if token == "good" else "unknown"


def test_reviews_answer_for_the_one_named(authorizer):
    reviews = Reviews(authorizer, Tokens())

    def ask(resource, body, who=NOBODY, namespace=""):
        return asyncio.run(reviews.create(resource, who, namespace, body))["status"]

    attributes = {"verb": "create", "resource": "pods", "subresource": "binding", "namespace": "x"}
    body = {"spec": {"resourceAttributes": attributes, "user": "system:kube-scheduler"}}
    assert ask("subjectaccessreviews", body)["allowed"] is True
    assert ask("selfsubjectaccessreviews", body) == {"allowed": False}
    assert ask("localsubjectaccessreviews", body, namespace="x")["allowed"] is True
    with pytest.raises(ApiError) as caught:
        ask("localsubjectaccessreviews", body, namespace="y")
    assert caught.value.code == 400
    with pytest.raises(ApiError) as caught:
        ask("subjectaccessreviews", {"spec": {"resourceAttributes": {}}})
    assert "at least one of user or group must be specified" in caught.value.message
    with pytest.raises(ApiError) as caught:
        ask("subjectaccessreviews", {"spec": {"user": "x"}})
    assert "exactly one of nonResourceAttributes or resourceAttributes must be specified" in caught.value.message
    rules = ask("selfsubjectrulesreviews", {"spec": {"namespace": "x"}})
    assert {"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]} in rules[
        "resourceRules"
    ]
    assert rules["incomplete"] is False
    assert ask("selfsubjectrulesreviews", {"spec": {"namespace": "x"}}, NODE)["incomplete"] is True
    assert ask("selfsubjectreviews", {})["userInfo"]["username"] == "jane"
    assert ask("tokenreviews", {"spec": {"token": "good", "audiences": ["a"]}})["audiences"] == ["a"]
    assert ask("tokenreviews", {"spec": {"token": "bad"}}) == {"user": {}, "error": "unknown"}


def test_a_decision_may_be_awaited(authorizer):
    assert asyncio.run(decide(authorizer, Attributes(MASTER, "get"))).allowed
