"""The FlowSchemas and PriorityLevelConfigurations that a fresh server makes: upstream's, with upstream's numbers."""

from __future__ import annotations

from typing import Any

API_VERSION = "flowcontrol.apiserver.k8s.io/v1"
AUTOUPDATE = "apf.kubernetes.io/autoupdate-spec"
GROUP = "flowcontrol.apiserver.k8s.io"

# name -> (nominal shares, lendable percent, (queues, hand size, queue length) or None for Reject)
_LIMITED: dict[str, tuple[int, int, tuple[int, int, int] | None]] = {
    "system": (30, 33, (64, 6, 50)),
    "node-high": (40, 25, (64, 6, 50)),
    "leader-election": (10, 0, (16, 4, 50)),
    "workload-high": (40, 50, (128, 6, 50)),
    "workload-low": (100, 90, (128, 6, 50)),
    "global-default": (20, 50, (128, 6, 50)),
    "catch-all": (5, 0, None),
}


def priority_levels() -> list[dict[str, Any]]:
    specs: dict[str, dict[str, Any]] = {
        "exempt": {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
    }
    for name, (shares, lendable, queuing) in _LIMITED.items():
        response: dict[str, Any] = {"type": "Reject"}
        if queuing is not None:
            queues, hand, length = queuing
            response = {"type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": length}}
        limited = {"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response}
        specs[name] = {"type": "Limited", "limited": limited}
    return [_object("PriorityLevelConfiguration", name, spec) for name, spec in specs.items()]


def flow_schemas() -> list[dict[str, Any]]:
    everybody = _groups("system:unauthenticated", "system:authenticated")
    system_accounts = [_account("*")]
    election = ["get", "create", "update"], "coordination.k8s.io", ["leases"]
    everything = {
        "resourceRules": [_resources(["*"], "*", ["*"], namespaces=["*"], cluster=True)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }
    probes = {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}
    managers = _users("system:kube-controller-manager", "system:kube-scheduler")
    nodes = [
        _resources(["*"], "", ["nodes", "nodes/status"], cluster=True),
        _resources(["*"], "coordination.k8s.io", ["leases"], namespaces=["*"]),
    ]
    endpoints = _resources(["get", "create", "update"], "", ["endpoints"], namespaces=["*"])
    endpoint_accounts = [_account("endpoint-controller"), _account("endpointslicemirroring-controller")]
    return [
        _schema("exempt", "exempt", 1, "", _groups("system:masters"), everything),
        _schema("probes", "exempt", 2, "", everybody, probes),
        _schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            managers + system_accounts,
            {"resourceRules": [_resources(*election, namespaces=["kube-system"])]},
        ),
        _schema(
            "endpoint-controller", "workload-high", 150, "ByUser", endpoint_accounts, {"resourceRules": [endpoints]}
        ),
        _schema(
            "workload-leader-election",
            "leader-election",
            200,
            "ByUser",
            system_accounts,
            {"resourceRules": [_resources(*election, namespaces=["*"])]},
        ),
        _schema("system-node-high", "node-high", 400, "ByUser", _groups("system:nodes"), {"resourceRules": nodes}),
        _schema("system-nodes", "system", 500, "ByUser", _groups("system:nodes"), everything),
        _schema("kube-controller-manager", "workload-high", 800, "ByNamespace", managers[:1], everything),
        _schema("kube-scheduler", "workload-high", 800, "ByNamespace", managers[1:], everything),
        _schema("kube-system-service-accounts", "workload-high", 900, "ByNamespace", system_accounts, everything),
        _schema("service-accounts", "workload-low", 9000, "ByUser", _groups("system:serviceaccounts"), everything),
        _schema("global-default", "global-default", 9900, "ByUser", everybody, everything),
        _schema("catch-all", "catch-all", 10000, "ByUser", everybody, everything),
    ]


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "annotations": {AUTOUPDATE: "true"}}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _schema(
    name: str, level: str, precedence: int, distinguisher: str, subjects: list[dict[str, Any]], rules: dict[str, Any]
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [{"subjects": subjects, **rules}],
    }
    if distinguisher:
        spec["distinguisherMethod"] = {"type": distinguisher}
    return _object("FlowSchema", name, spec)


def _resources(
    verbs: list[str], group: str, resources: list[str], *, namespaces: list[str] | None = None, cluster: bool = False
) -> dict[str, Any]:
    rule: dict[str, Any] = {"verbs": verbs, "apiGroups": [group], "resources": resources}
    if cluster:
        rule["clusterScope"] = True
    if namespaces:
        rule["namespaces"] = namespaces
    return rule


def _groups(*names: str) -> list[dict[str, Any]]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[dict[str, Any]]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _account(name: str) -> dict[str, Any]:
    return {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}
