"""How long one authorization decision takes, warm, as clusters grow. Prints microseconds a decision."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from peavine.apiserver.authentication import User
from peavine.apiserver.authorization.attributes import Attributes
from peavine.apiserver.authorization.build import Union, build_authorizer
from peavine.apiserver.bootstrap import policy
from tests.apiserver.security.fakes import Objects

RBAC = policy.GROUP


def cluster(roles: int) -> Objects:
    """Upstream's bootstrap policy, and `roles` roles: all bound to one user, each also to a user of its own."""
    objects = Objects()
    for obj in policy.roles() + policy.bindings():
        objects.put(RBAC, obj["kind"].lower() + "s", obj)
    for number in range(roles):
        name, resource = f"role-{number}", f"widgets{number % 50}"
        rules = [
            {"verbs": ["get", "list", "watch"], "apiGroups": ["example.com"], "resources": [resource]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [f"map-{number}"]},
        ]
        namespace = f"team-{number % 20}"
        objects.put(RBAC, "roles", {"metadata": {"name": name, "namespace": namespace}, "rules": rules})
        objects.put(RBAC, "clusterroles", {"metadata": {"name": name}, "rules": rules})
        subjects = [{"kind": "User", "name": who} for who in ("everything", f"user-{number}")]
        for kind, resource_name, home in (
            ("Role", "rolebindings", namespace),
            ("ClusterRole", "clusterrolebindings", ""),
        ):
            metadata = {"name": name, **({"namespace": home} if home else {})}
            ref = {"kind": kind, "name": name, "apiGroup": RBAC}
            objects.put(RBAC, resource_name, {"metadata": metadata, "roleRef": ref, "subjects": subjects})
    return objects


def measure(authorizer: Union, attributes: Attributes, rounds: int = 5, each: int = 2000) -> float:
    """Median of `rounds` means, in microseconds."""
    authorizer.authorize(attributes)
    means = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(each):
            authorizer.authorize(attributes)
        means.append((time.perf_counter() - began) / each * 1e6)
    return statistics.median(means)


def questions(roles: int) -> dict[str, Attributes]:
    everyone = ("system:authenticated",)
    account = ("system:serviceaccounts", "system:serviceaccounts:kube-system", *everyone)
    controller = User("system:serviceaccount:kube-system:deployment-controller", "", account)
    node = User("system:node:one", "", ("system:nodes", *everyone))
    return {
        "administrator": Attributes(User("admin", "", ("system:masters",)), "get", "default", "", "v1", "pods"),
        "scheduler binds a pod": Attributes(
            User("system:kube-scheduler", "", everyone), "create", "default", "", "v1", "pods", "binding"
        ),
        "controller updates": Attributes(controller, "update", "default", "apps", "v1", "deployments", "status"),
        "node patches a pod's status": Attributes(node, "patch", "default", "", "v1", "pods", "status", "web"),
        "user with one role": Attributes(
            User(f"user-{roles - 1}", "", everyone), "get", "team-1", "example.com", "v1", f"widgets{(roles - 1) % 50}"
        ),
        f"user with {roles} roles, allowed": Attributes(
            User("everything", "", everyone), "get", "team-1", "", "v1", "configmaps", "", f"map-{roles - 1}"
        ),
        f"user with {roles} roles, refused": Attributes(
            User("everything", "", everyone), "delete", "team-1", "example.com", "v1", "widgets1"
        ),
        "stranger, refused": Attributes(User("nobody", "", everyone), "get", "team-1", "", "v1", "secrets"),
    }


def main() -> int:
    roles = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    authorizer = build_authorizer(cluster(roles))
    print(f"{roles} roles and {roles} cluster roles, each bound twice; microseconds a decision")
    for name, attributes in questions(roles).items():
        print(f"  {name:40} {measure(authorizer, attributes):8.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
