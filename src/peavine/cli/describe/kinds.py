# ruff: noqa: E501
"""The kinds that have a description of their own, pods apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from peavine.cli.describe import access, networking, policy, services, storage, workloads
from peavine.cli.describe.pods import pod_template
from peavine.cli.describe.text import Text, annotation_lines, flat, labels, selector_text, when
from peavine.cli.session import Session

Object = dict[str, Any]
Describer = Callable[[Session, Object], Awaitable[Text]]


def _head(obj: Object, *, namespace: bool = True) -> Text:
    text, meta = Text(), obj["metadata"]
    text.field(0, "Name", meta["name"])
    if namespace:
        text.field(0, "Namespace", meta.get("namespace", ""))
    return text


async def _deployment(session: Session, obj: Object) -> Text:
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    text = _head(obj)
    text.field(0, "CreationTimestamp", when(meta.get("creationTimestamp")))
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "Selector", selector_text(spec.get("selector")))
    text.field(
        0,
        "Replicas",
        f"{spec.get('replicas', 0)} desired | {status.get('updatedReplicas', 0)} updated | {status.get('replicas', 0)} total | "
        f"{status.get('availableReplicas', 0)} available | {status.get('unavailableReplicas', 0)} unavailable",
    )
    strategy = spec.get("strategy") or {}
    text.field(0, "StrategyType", strategy.get("type", ""))
    text.field(0, "MinReadySeconds", spec.get("minReadySeconds", 0))
    rolling = strategy.get("rollingUpdate")
    if rolling:
        text.field(
            0,
            "RollingUpdateStrategy",
            f"{rolling.get('maxUnavailable')} max unavailable, {rolling.get('maxSurge')} max surge",
        )
    text.line(0, "Pod Template:")
    pod_template(text, spec.get("template") or {})
    if status.get("conditions"):
        text.line(0, "Conditions:")
        text.line(1, "Type\tStatus\tReason")
        text.line(1, "----\t------\t------")
        for c in status["conditions"]:
            text.line(1, f"{c['type']} \t{c['status']}\t{c.get('reason', '')}")
    new, old = await _replica_sets(session, obj)
    if (old, new) != ("<none>", "<none>"):
        text.field(0, "OldReplicaSets", old)
        text.field(0, "NewReplicaSet", new)
    return text


async def _replica_sets(session: Session, obj: Object) -> tuple[str, str]:
    meta = obj["metadata"]
    listed = await session.get(f"/apis/apps/v1/namespaces/{meta['namespace']}/replicasets")
    owned = [
        item for item in listed.get("items") or ()
        if any(o.get("uid") == meta.get("uid") for o in item["metadata"].get("ownerReferences") or ())
    ]  # fmt: skip

    def shown(item: Object) -> str:
        return f"{item['metadata']['name']} ({(item.get('status') or {}).get('replicas', 0)}/{item['spec'].get('replicas', 0)} replicas created)"

    revision = "deployment.kubernetes.io/revision"
    current = (meta.get("annotations") or {}).get(revision)
    new = [i for i in owned if (i["metadata"].get("annotations") or {}).get(revision) == current]
    old = sorted((i for i in owned if i not in new), key=lambda i: i["metadata"].get("creationTimestamp", ""))
    return (shown(new[0]) if new else "<none>"), (", ".join(map(shown, old)) or "<none>")


async def _node(session: Session, obj: Object) -> Text:
    meta, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    text = _head(obj, namespace=False)
    roles = [key.rpartition("/")[2] for key in meta.get("labels") or {} if key.startswith("node-role.kubernetes.io/")]
    text.field(0, "Roles", ",".join(sorted(roles)) or "<none>")
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "CreationTimestamp", when(meta.get("creationTimestamp")))
    ordered = sorted(spec.get("taints") or (), key=lambda t: (t["effect"], t["key"]))
    taints = [f"{t['key']}{'=' + t['value'] if t.get('value') else ''}:{t['effect']}" for t in ordered]
    for at, taint in enumerate(taints or ["<none>"]):
        text.line(0, f"Taints:\t{taint}" if at == 0 else f"\t{taint}")
    text.field(0, "Unschedulable", str(spec.get("unschedulable", False)).lower())
    await _lease(session, text, meta["name"])
    if status.get("conditions"):
        text.line(0, "Conditions:")
        text.line(1, "Type\tStatus\tLastHeartbeatTime\tLastTransitionTime\tReason\tMessage")
        text.line(1, "----\t------\t-----------------\t------------------\t------\t-------")
        for c in status["conditions"]:
            text.line(
                1,
                f"{c['type']} \t{c['status']} \t{when(c.get('lastHeartbeatTime'))} \t{when(c.get('lastTransitionTime'))} \t{c.get('reason', '')} \t{c.get('message', '')}",
            )
    text.line(0, "Addresses:")
    for address in status.get("addresses") or ():
        text.line(1, f"{address['type']}:\t{address['address']}")
    for part in ("capacity", "allocatable"):
        if status.get(part):
            text.line(0, f"{part.capitalize()}:")
            for key in sorted(status[part]):
                text.line(1, f"{key}:\t{status[part][key]}")
    info = status.get("nodeInfo") or {}
    text.line(0, "System Info:")
    for name, key in (("Machine ID", "machineID"), ("System UUID", "systemUUID"), ("Boot ID", "bootID"), ("Kernel Version", "kernelVersion"),
                      ("OS Image", "osImage"), ("Operating System", "operatingSystem"), ("Architecture", "architecture"),
                      ("Container Runtime Version", "containerRuntimeVersion"), ("Kubelet Version", "kubeletVersion"),
                      ("Kube-Proxy Version", "kubeProxyVersion")):  # fmt: skip
        text.line(1, f"{name}:\t{info.get(key, '')}")
    if spec.get("podCIDR"):
        text.field(0, "PodCIDR", spec["podCIDR"])
        text.field(0, "PodCIDRs", ",".join(spec.get("podCIDRs") or ()))
    if spec.get("providerID"):
        text.field(0, "ProviderID", spec["providerID"])
    pods = (
        await session.get(
            "/api/v1/pods", fieldSelector=f"spec.nodeName={meta['name']},status.phase!=Succeeded,status.phase!=Failed"
        )
    ).get("items") or []
    _allocated(text, pods, status.get("allocatable") or {})
    return text


async def _lease(session: Session, text: Text, name: str) -> None:
    from peavine.machinery.errors import ApiError

    try:
        lease = await session.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}")
    except ApiError as error:
        text.line(0, f"Lease:\tFailed to get lease: {error.message}")
        return
    spec = lease.get("spec") or {}
    text.line(0, "Lease:")
    text.line(1, f"HolderIdentity:\t{spec.get('holderIdentity') or '<unset>'}")
    text.line(1, f"AcquireTime:\t{when(spec.get('acquireTime'))}")
    text.line(1, f"RenewTime:\t{when(spec.get('renewTime'))}")


def _allocated(text: Text, pods: list[Object], allocatable: Object) -> None:
    from peavine.cli.describe.text import ago
    from peavine.machinery.quantity import ZERO, Quantity, parse_quantity

    names = ("cpu", "memory")

    def total(pod: Object, part: str, name: str) -> Quantity:
        found = ZERO
        for container in pod["spec"].get("containers") or ():
            value = ((container.get("resources") or {}).get(part) or {}).get(name)
            if value:
                found = found + parse_quantity(value)
        return found

    def share(amount: Quantity, name: str) -> int:
        room = parse_quantity(allocatable.get(name, "0"))
        return int(amount.nanos * 100 / room.nanos) if room.nanos else 0

    text.line(0, f"Non-terminated Pods:\t({len(pods)} in total)")
    text.line(1, "Namespace\tName\t\tCPU Requests\tCPU Limits\tMemory Requests\tMemory Limits\tAge")
    text.line(1, "---------\t----\t\t------------\t----------\t---------------\t-------------\t---")
    sums: dict[tuple[str, str], Quantity] = {}
    for pod in pods:
        cells = []
        for name in names:
            for part in ("requests", "limits"):
                amount = total(pod, part, name)
                sums[name, part] = sums.get((name, part), ZERO) + amount
                cells.append(f"{amount} ({share(amount, name)}%)")
        meta = pod["metadata"]
        text.line(
            1, f"{meta['namespace']}\t{meta['name']}\t\t" + "\t".join(cells) + f"\t{ago(meta.get('creationTimestamp'))}"
        )
    text.line(0, "Allocated resources:")
    text.line(1, "(Total limits may be over 100 percent, i.e., overcommitted.)")
    text.line(1, "Resource\tRequests\tLimits")
    text.line(1, "--------\t--------\t------")
    for name in (*names, "ephemeral-storage"):
        cells = []
        for part in ("requests", "limits"):
            amount = sums.get((name, part), ZERO)
            cells.append(f"{amount} ({share(amount, name)}%)")
        text.line(1, f"{name}\t" + "\t".join(cells))


async def _config_map(session: Session, obj: Object) -> Text:
    text, meta = _head(obj), obj["metadata"]
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.line(0, "")
    text.line(0, "Data")
    text.line(0, "====")
    for key, value in sorted((obj.get("data") or {}).items()):
        text.line(0, f"{key}:")
        text.line(0, "----")
        for line in value.split("\n"):
            text.line(0, line)
        text.line(0, "")
    text.line(0, "")
    text.line(0, "BinaryData")
    text.line(0, "====")
    for key, value in sorted((obj.get("binaryData") or {}).items()):
        text.line(0, f"{key}: {len(value) * 3 // 4} bytes")
    text.line(0, "")
    return text


async def _secret(session: Session, obj: Object) -> Text:
    import base64

    text, meta = _head(obj), obj["metadata"]
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.line(0, "")
    text.line(0, f"Type:\t{obj.get('type', '')}")
    text.line(0, "")
    text.line(0, "Data")
    text.line(0, "====")
    for key, value in sorted((obj.get("data") or {}).items()):
        data = base64.b64decode(value)
        shown = (
            data.decode()
            if obj.get("type") == "kubernetes.io/service-account-token" and key == "token"
            else f"{len(data)} bytes"
        )
        text.line(0, f"{key}:\t{shown}")
    return text


async def _namespace(session: Session, obj: Object) -> Text:
    text, meta = _head(obj, namespace=False), obj["metadata"]
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "Status", (obj.get("status") or {}).get("phase", ""))
    await _space_limits(session, text, meta["name"])
    return text


async def _space_limits(session: Session, text: Text, namespace: str) -> None:
    from peavine.cli.describe.policy import limits, used_lines

    base = f"/api/v1/namespaces/{namespace}"
    quotas = (await session.get(f"{base}/resourcequotas")).get("items") or []
    text.line(0, "")
    text.line(0, "Resource Quotas" if quotas else "No resource quota.")
    for quota in quotas:
        text.field(1, "Name", quota["metadata"]["name"])
        text.line(1, "Resource\tUsed\tHard")
        text.line(1, "--------\t---\t---")
        used_lines(text, quota, 1)
    ranges = (await session.get(f"{base}/limitranges")).get("items") or []
    text.line(0, "")
    if not ranges:
        text.line(0, "No LimitRange resource.")
        return
    text.line(0, "Resource Limits")
    limits(text, ranges, 1)


async def _replica_set(session: Session, obj: Object) -> Text:
    meta, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    text = _head(obj)
    text.field(0, "Selector", selector_text(spec.get("selector")))
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
    if owner:
        text.field(0, "Controlled By", f"{owner['kind']}/{owner['name']}")
    text.field(0, "Replicas", f"{status.get('replicas', 0)} current / {spec.get('replicas', 0)} desired")
    pods = (await session.get(f"/api/v1/namespaces/{meta['namespace']}/pods")).get("items") or []
    owned = [
        p for p in pods if any(o.get("uid") == meta.get("uid") for o in p["metadata"].get("ownerReferences") or ())
    ]
    phases = [(p.get("status") or {}).get("phase", "") for p in owned]
    counts = [f"{phases.count(phase)} {phase}" for phase in ("Running", "Waiting", "Succeeded", "Failed")]
    counts[1] = f"{phases.count('Pending')} Waiting"
    text.field(0, "Pods Status", " / ".join(counts))
    text.line(0, "Pod Template:")
    pod_template(text, spec.get("template") or {})
    return text


async def _service_account(session: Session, obj: Object) -> Text:
    text, meta = _head(obj), obj["metadata"]
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    for name, key in (("Image pull secrets", "imagePullSecrets"), ("Mountable secrets", "secrets")):
        found = [await _existing(session, meta["namespace"], s["name"]) for s in obj.get(key) or ()]
        for at, secret in enumerate(found or ["<none>"]):
            text.line(0, f"{name}:\t{secret}" if at == 0 else f"\t{secret}")
    text.line(0, "Tokens:\t<none>")
    return text


async def _existing(session: Session, namespace: str, secret: str) -> str:
    from peavine.machinery.errors import ApiError

    try:
        await session.get(f"/api/v1/namespaces/{namespace}/secrets/{secret}")
    except ApiError:
        return f"{secret} (not found)"
    return secret


async def _priority_class(session: Session, obj: Object) -> Text:
    text = _head(obj, namespace=False)
    text.field(0, "Value", obj.get("value", 0))
    text.field(0, "GlobalDefault", str(obj.get("globalDefault", False)).lower())
    text.field(0, "PreemptionPolicy", obj.get("preemptionPolicy", ""))
    text.field(0, "Description", obj.get("description", ""))
    text.flat("Annotations", flat(obj["metadata"].get("annotations")))
    return text


KINDS: dict[tuple[str, str], Describer] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): workloads.stateful_set,
    ("apps", "DaemonSet"): workloads.daemon_set,
    ("", "ReplicationController"): workloads.replication_controller,
    ("batch", "Job"): workloads.job,
    ("batch", "CronJob"): workloads.cron_job,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    ("", "Service"): services.service,
    ("", "Endpoints"): networking.endpoints,
    ("discovery.k8s.io", "EndpointSlice"): networking.endpoint_slice,
    ("networking.k8s.io", "NetworkPolicy"): networking.network_policy,
    ("networking.k8s.io", "Ingress"): networking.ingress,
    ("networking.k8s.io", "IngressClass"): networking.ingress_class,
    ("networking.k8s.io", "ServiceCIDR"): networking.service_cidr,
    ("networking.k8s.io", "IPAddress"): networking.ip_address,
    ("", "PersistentVolume"): storage.persistent_volume,
    ("", "PersistentVolumeClaim"): storage.persistent_volume_claim,
    ("storage.k8s.io", "StorageClass"): storage.storage_class,
    ("storage.k8s.io", "CSINode"): storage.csi_node,
    ("", "LimitRange"): policy.limit_range,
    ("", "ResourceQuota"): policy.resource_quota,
    ("policy", "PodDisruptionBudget"): policy.disruption_budget,
    ("autoscaling", "HorizontalPodAutoscaler"): policy.autoscaler,
    ("rbac.authorization.k8s.io", "Role"): access.role,
    ("rbac.authorization.k8s.io", "ClusterRole"): access.role,
    ("rbac.authorization.k8s.io", "RoleBinding"): access.binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): access.binding,
    ("certificates.k8s.io", "CertificateSigningRequest"): access.signing_request,
    ("", "Node"): _node,
    ("", "ConfigMap"): _config_map,
    ("", "Secret"): _secret,
    ("", "Namespace"): _namespace,
    ("", "ServiceAccount"): _service_account,
}
_RBAC = "rbac.authorization.k8s.io"
WITHOUT_EVENTS = {
    ("", "Secret"), ("", "Namespace"), ("", "LimitRange"), ("", "ResourceQuota"), ("networking.k8s.io", "NetworkPolicy"),
    (_RBAC, "Role"), (_RBAC, "ClusterRole"), (_RBAC, "RoleBinding"), (_RBAC, "ClusterRoleBinding"),
}  # fmt: skip
