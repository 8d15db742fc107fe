"""Volumes, claims, storage classes and CSI nodes."""

from __future__ import annotations

from typing import Any

from peavine.cli.describe.text import Text, access_modes, ago, annotation_lines, flat, go_list, labels, when
from peavine.cli.describe.volumes import claim, volume_source
from peavine.cli.session import Session

Object = dict[str, Any]


async def persistent_volume(session: Session, obj: Object) -> Text:
    text, meta, spec, status = Text(), obj["metadata"], obj["spec"], obj.get("status") or {}
    text.field(0, "Name", meta["name"])
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "Finalizers", go_list(meta.get("finalizers") or []))
    text.field(0, "StorageClass", spec.get("storageClassName", ""))
    ending = meta.get("deletionTimestamp")
    text.field(0, "Status", f"Terminating (lasts {ago(ending)})" if ending else status.get("phase", ""))
    bound = spec.get("claimRef")
    text.field(0, "Claim", f"{bound.get('namespace', '')}/{bound.get('name', '')}" if bound else "")
    text.field(0, "Reclaim Policy", spec.get("persistentVolumeReclaimPolicy", ""))
    text.field(0, "Access Modes", access_modes(spec.get("accessModes")))
    if spec.get("volumeMode"):
        text.field(0, "VolumeMode", spec["volumeMode"])
    text.field(0, "Capacity", (spec.get("capacity") or {}).get("storage", "0"))
    _node_affinity(text, spec.get("nodeAffinity"))
    text.field(0, "Message", status.get("message", ""))
    text.line(0, "Source:")
    volume_source(text, spec, persistent=True)
    return text


def _node_affinity(text: Text, affinity: Object | None) -> None:
    required = (affinity or {}).get("required")
    if not required:
        text.line(0, "Node Affinity:\t<none>")
        return
    text.line(0, "Node Affinity:\t")
    terms = required.get("nodeSelectorTerms") or []
    text.line(1, "Required Terms:\t" + ("" if terms else "<none>"))
    for at, term in enumerate(terms):
        needs = term.get("matchExpressions") or []
        if not needs:
            text.line(2, f"Term {at}:\t<none>")
        for number, need in enumerate(needs):
            shown = f"{need['key']} {need['operator'].lower()}"
            if need.get("values"):
                shown += f" [{', '.join(need['values'])}]"
            text.line(2, (f"Term {at}:\t" if number == 0 else "\t") + shown)


async def persistent_volume_claim(session: Session, obj: Object) -> Text:
    text, meta = Text(), obj["metadata"]
    claim(text, obj)
    pods = (await session.get(f"/api/v1/namespaces/{meta['namespace']}/pods")).get("items") or []
    users = [p["metadata"]["name"] for p in pods if _uses(p, meta["name"])]
    for at, name in enumerate(users or ["<none>"]):
        text.line(0, f"Used By:\t{name}" if at == 0 else f"\t{name}")
    conditions = (obj.get("status") or {}).get("conditions")
    if conditions:
        text.line(0, "Conditions:")
        text.line(1, "Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage")
        text.line(1, "----\t------\t-----------------\t------------------\t------\t-------")
        for c in conditions:
            probed, changed = when(c.get("lastProbeTime")), when(c.get("lastTransitionTime"))
            text.line(
                1,
                f"{c['type']} \t{c['status']} \t{probed} \t{changed} \t{c.get('reason', '')} \t{c.get('message', '')}",
            )
    return text


def _uses(pod: Object, name: str) -> bool:
    for volume in pod["spec"].get("volumes") or ():
        if (volume.get("persistentVolumeClaim") or {}).get("claimName") == name:
            return True
        if "ephemeral" in volume and f"{pod['metadata']['name']}-{volume['name']}" == name:
            return True
    return False


async def storage_class(session: Session, obj: Object) -> Text:
    text, meta = Text(), obj["metadata"]
    text.field(0, "Name", meta["name"])
    annotations = meta.get("annotations") or {}
    default = any(
        annotations.get(f"storageclass.{prefix}kubernetes.io/is-default-class") == "true" for prefix in ("", "beta.")
    )
    text.field(0, "IsDefaultClass", "Yes" if default else "No")
    text.flat("Annotations", flat(annotations))
    text.field(0, "Provisioner", obj.get("provisioner", ""))
    text.field(0, "Parameters", flat(obj.get("parameters")))
    grows = obj.get("allowVolumeExpansion")
    text.field(0, "AllowVolumeExpansion", "<unset>" if grows is None else "True" if grows else "False")
    options = obj.get("mountOptions") or []
    text.line(0, "MountOptions:" + ("" if options else "\t<none>"))
    for option in options:
        text.line(1, option)
    if obj.get("reclaimPolicy"):
        text.field(0, "ReclaimPolicy", obj["reclaimPolicy"])
    if obj.get("volumeBindingMode"):
        text.field(0, "VolumeBindingMode", obj["volumeBindingMode"])
    terms = obj.get("allowedTopologies")
    if terms:
        text.line(0, "AllowedTopologies:\t")
        for at, term in enumerate(terms):
            needs = term.get("matchLabelExpressions") or []
            if not needs:
                text.line(1, f"Term {at}:\t<none>")
            for number, need in enumerate(needs):
                shown = f"{need['key']} in [{', '.join(need.get('values') or ())}]"
                text.line(1, (f"Term {at}:\t" if number == 0 else "\t") + shown)
    return text


async def csi_node(session: Session, obj: Object) -> Text:
    text, meta = Text(), obj["metadata"]
    text.field(0, "Name", meta["name"])
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    text.field(0, "CreationTimestamp", when(meta.get("creationTimestamp")))
    text.line(0, "Spec:")
    drivers = (obj.get("spec") or {}).get("drivers")
    if drivers:
        text.line(1, "Drivers:")
    for driver in drivers or ():
        text.line(2, f"{driver['name']}:")
        text.field(3, "Node ID", driver.get("nodeID", ""))
        count = (driver.get("allocatable") or {}).get("count")
        if count is not None:
            text.line(3, "Allocatables:")
            text.field(4, "Count", count)
        if driver.get("topologyKeys"):
            text.field(3, "Topology Keys", go_list(driver["topologyKeys"]))
    return text
