"""Users x verbs x resources: the indexed authorizer answers as a plain reading of the rules does, whatever they are."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from peavine.apiserver.authentication import User
from peavine.apiserver.authorization.attributes import Attributes
from peavine.apiserver.authorization.rbac import GROUP, RoleBasedAuthorizer
from tests.apiserver.inside import serving
from tests.apiserver.security.fakes import Objects

VERBS, GROUPS = ("get", "list", "create", "delete"), ("", "apps")
RESOURCES, NAMES, NAMESPACES = ("pods", "pods/log", "deployments", "deployments/scale"), ("", "a", "b"), ("", "x", "y")
USERS = (
    User("ann", groups=("dev",)),
    User("bob", groups=("dev", "ops")),
    User("system:serviceaccount:x:robot", groups=("system:serviceaccounts",)),
)
SUBJECTS = (
    {"kind": "User", "name": "ann"},
    {"kind": "Group", "name": "dev"},
    {"kind": "Group", "name": "ops"},
    {"kind": "ServiceAccount", "name": "robot", "namespace": "x"},
)


def some(*values):
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


rules = st.lists(
    st.fixed_dictionaries(
        {
            "verbs": some(*VERBS, "*"),
            "apiGroups": some(*GROUPS, "*"),
            "resources": some(*RESOURCES, "*", "*/scale"),
            "resourceNames": st.one_of(st.just([]), some("a", "b")),
        }
    ),
    max_size=3,
)
# (name, namespace or "" for a ClusterRole), and which role, where, to whom
roles = st.dictionaries(st.tuples(st.sampled_from(["r1", "r2", "r3"]), st.sampled_from(NAMESPACES)), rules, max_size=6)
bindings = st.lists(
    st.tuples(
        st.sampled_from(["r1", "r2", "r3"]),
        st.sampled_from(["Role", "ClusterRole"]),
        st.sampled_from(NAMESPACES),
        st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=2),
    ),
    max_size=12,
)


def plainly(roles, bindings, asked):
    """RBAC as its documentation says it, one rule after the other."""
    for name, kind, namespace, subjects in bindings:
        if kind == "Role" and not namespace:
            continue
        if namespace and namespace != asked.namespace:
            continue
        if not any(names(subject, asked.user) for subject in subjects):
            continue
        for rule in roles.get((name, namespace if kind == "Role" else ""), ()):
            resource = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
            wanted = {resource, "*"} | ({f"*/{asked.subresource}"} if asked.subresource else set())
            if (
                {asked.verb, "*"} & set(rule["verbs"])
                and {asked.group, "*"} & set(rule["apiGroups"])
                and wanted & set(rule["resources"])
                and (not rule.get("resourceNames") or asked.name in rule["resourceNames"])
            ):
                return True
    return False


def names(subject, user):
    if subject["kind"] == "ServiceAccount":
        return user.name == f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
    return subject["name"] == user.name if subject["kind"] == "User" else subject["name"] in user.groups


def put(objects, roles, bindings):
    for (name, namespace), held in roles.items():
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        objects.put(GROUP, "roles" if namespace else "clusterroles", {"metadata": metadata, "rules": held})
    for number, (name, kind, namespace, subjects) in enumerate(bindings):
        if kind == "Role" and not namespace:
            continue
        metadata = {"name": f"b{number}", **({"namespace": namespace} if namespace else {})}
        binding = {"metadata": metadata, "roleRef": {"kind": kind, "name": name}, "subjects": subjects}
        objects.put(GROUP, "rolebindings" if namespace else "clusterrolebindings", binding)


@settings(max_examples=40, deadline=None)
@given(roles, bindings, roles, st.booleans())
def test_every_question_is_answered_as_the_rules_say(roles, bindings, changed, before):
    objects = Objects()
    if before:
        put(objects, roles, bindings)
        authorizer = RoleBasedAuthorizer(objects)
    else:
        authorizer = RoleBasedAuthorizer(objects)
        put(objects, roles, bindings)
    check(authorizer, roles, bindings)
    put(objects, changed, [])  # rules change under bindings that have been asked
    check(authorizer, {**roles, **changed}, bindings)
    for obj in objects.list(GROUP, "clusterrolebindings"):
        objects.remove(GROUP, "clusterrolebindings", None, obj["metadata"]["name"])
    check(authorizer, {**roles, **changed}, [b for b in bindings if b[2]])


def check(authorizer, roles, bindings):
    for user in USERS:
        for verb in VERBS:
            for group in GROUPS:
                for full in RESOURCES:
                    resource, _, subresource = full.partition("/")
                    for namespace in NAMESPACES:
                        for name in NAMES:
                            asked = Attributes(user, verb, namespace, group, "v1", resource, subresource, name)
                            assert authorizer.authorize(asked).allowed == plainly(roles, bindings, asked), asked


# Name, namespace ("" for a ClusterRole) -> rules; and who has it, where.
GIVEN = {
    ("edit", "x"): [{"verbs": ["get", "list", "create"], "apiGroups": [""], "resources": ["pods", "configmaps"]}],
    ("look", ""): [{"verbs": ["get", "list"], "apiGroups": ["apps", ""], "resources": ["deployments", "pods"]}],
    ("own", "y"): [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["secrets"], "resourceNames": ["a"]}],
    ("tidy", ""): [{"verbs": ["delete"], "apiGroups": ["*"], "resources": ["*"]}],
}
BOUND = [
    ("edit", "Role", "x", [{"kind": "User", "name": "ann"}]),
    ("look", "ClusterRole", "", [{"kind": "Group", "name": "ops"}]),
    ("own", "Role", "y", [{"kind": "ServiceAccount", "name": "robot", "namespace": "x"}]),
    ("tidy", "ClusterRole", "y", [{"kind": "Group", "name": "dev"}]),
]
PATHS = {("", "pods"): "/api/v1", ("", "secrets"): "/api/v1", ("", "configmaps"): "/api/v1"}
PATHS[("apps", "deployments")] = "/apis/apps/v1"
METHODS = {"get": "GET", "list": "GET", "create": "POST", "delete": "DELETE"}


def test_a_running_server_answers_each_user_each_verb_and_each_resource_as_the_rules_say(tmp_path):
    async def scenario(api):
        for namespace in ("x", "y"):
            assert (await api("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})).status == 201
        rbac = f"/apis/{GROUP}/v1"
        for (name, namespace), rules_ in GIVEN.items():
            home = f"/namespaces/{namespace}/roles" if namespace else "/clusterroles"
            assert (await api("POST", rbac + home, {"metadata": {"name": name}, "rules": rules_})).status == 201
        for name, kind, namespace, subjects in BOUND:
            home = f"/namespaces/{namespace}/rolebindings" if namespace else "/clusterrolebindings"
            body = {"metadata": {"name": name}, "roleRef": {"apiGroup": GROUP, "kind": kind, "name": name},
                    "subjects": subjects}  # fmt: skip
            assert (await api("POST", rbac + home, body)).status == 201
        allowed = 0
        for user in USERS:
            headers = {"Impersonate-User": user.name}
            if not user.name.startswith("system:"):
                headers["Impersonate-Group"] = user.groups[-1]  # one group is enough to tell them apart
            asking = User(user.name, groups=(user.groups[-1],))
            for (group, resource), prefix in PATHS.items():
                for namespace in ("", "x", "y"):
                    for verb, method in METHODS.items():
                        for name in ("",) if verb in ("list", "create") else ("a", "b"):
                            if not namespace and verb != "list":
                                continue
                            asked = Attributes(asking, verb, namespace, group, "v1", resource, "", name)
                            home = f"{prefix}/namespaces/{namespace}" if namespace else prefix
                            path = f"{home}/{resource}/{name}".rstrip("/")
                            answer = await api(method, path, {} if verb == "create" else None, headers)
                            wanted = plainly(GIVEN, BOUND, asked)
                            assert (answer.status != 403) == wanted, (user.name, method, path, answer.body)
                            allowed += wanted
        assert allowed > 15

    asyncio.run(with_admin(tmp_path, scenario))


async def with_admin(tmp_path, scenario):
    async with serving(tmp_path, disable_admission_plugins=("ServiceAccount",), enable_aggregation=False) as api:
        await scenario(api)
