"""The rules of volumes and devices once more: plain and slow, over plain objects, after upstream's documents.

`volumes(...)` answers what a pod's volumes say about every node; `devices(...)` tries every way to deal devices out.
"""

import itertools
from collections import Counter

from peavine.api.core.nodeselector import pod_fits_node
from peavine.machinery.quantity import parse_quantity
from peavine.machinery.selectors import selector_of

ONE_POD = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
DISK = "node(s) had no available disk"
LIMIT = "node(s) exceed max volume count"
NONE = "node(s) didn't find available persistent volumes to bind"
AFFINITY = "node(s) didn't match PersistentVolume's node affinity"
GONE = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
ZONE = "node(s) had no available volume zone"
LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


def claims_of(pod, claims):
    names = [
        v["persistentVolumeClaim"]["claimName"] for v in pod["spec"].get("volumes", ()) if "persistentVolumeClaim" in v
    ]
    return [next((c for c in claims if c["metadata"]["name"] == name), name) for name in names]


def size(obj):
    spec = obj["spec"]
    text = spec["resources"]["requests"]["storage"] if "resources" in spec else spec["capacity"]["storage"]
    return parse_quantity(text).value()


def bound(claim):
    return bool(claim["spec"].get("volumeName"))


def reaches(volume, node):
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return required is None or pod_fits_node({"spec": {"affinity": affinity}}, node)


def refusal(pod, world):
    """Why no node matters, or None."""
    mine = claims_of(pod, world.claims)
    for claim in mine:
        if isinstance(claim, str):
            return f'persistentvolumeclaim "{claim}" not found'
    for claim in mine:
        class_ = world.classes.get(claim["spec"].get("storageClassName"))
        if not bound(claim) and (class_ is None or class_["volumeBindingMode"] != "WaitForFirstConsumer"):
            return "pod has unbound immediate PersistentVolumeClaims"
    return None


def volumes(pod, node, world):
    """The reasons why the pod may not go to the node; [] = it may."""
    for rule in (restrictions, limits, binding, zones):
        if reasons := rule(pod, node, world):
            return reasons
    return []


def disks(pod):
    return [v for v in pod["spec"].get("volumes", ()) if "gcePersistentDisk" in v or "iscsi" in v]


def restrictions(pod, node, world):
    for mine in disks(pod):
        for other in world.on(node):
            for theirs in disks(other):
                for kind, key in (("gcePersistentDisk", "pdName"), ("iscsi", "iqn")):
                    a, b = mine.get(kind), theirs.get(kind)
                    if a and b and a[key] == b[key] and not (a.get("readOnly") and b.get("readOnly")):
                        return [DISK]
    alone = [c for c in claims_of(pod, world.claims) if "ReadWriteOncePod" in c["spec"]["accessModes"]]
    if any(c in claims_of(other, world.claims) for c in alone for other in world.pods):
        return [ONE_POD]
    return []


def handle(claim, world):
    """(driver, volume) of what is attached for a claim, or None."""
    if isinstance(claim, str):
        return None
    volume = world.volumes.get(claim["spec"].get("volumeName"))
    if volume is not None:
        csi = volume["spec"].get("csi")
        return (csi["driver"], csi["volumeHandle"]) if csi else None
    class_ = world.classes.get(claim["spec"].get("storageClassName"))
    if class_ is None or class_["provisioner"] == "kubernetes.io/no-provisioner":
        return None
    return class_["provisioner"], claim["metadata"]["name"]


def limits(pod, node, world):
    held = {handle(c, world) for other in world.on(node) for c in claims_of(other, world.claims)} - {None}
    mine = {handle(c, world) for c in claims_of(pod, world.claims)} - {None}
    for driver, most in world.limits.get(node["metadata"]["name"], {}).items():
        after = {h for h in held | mine if h[0] == driver}
        if any(h[0] == driver for h in mine) and len(after) > most:
            return [LIMIT]
    return []


def binding(pod, node, world):
    reasons = []
    mine = claims_of(pod, world.claims)
    for claim in mine:
        if bound(claim) and claim["spec"]["volumeName"] not in world.volumes:
            return [GONE]
    known = [world.volumes[c["spec"]["volumeName"]] for c in mine if bound(c)]
    if any(not reaches(v, node) for v in known):
        reasons.append(AFFINITY)
    taken = set()
    for claim in sorted((c for c in mine if not bound(c)), key=size):
        name = claim["spec"].get("storageClassName")
        fitting = [
            v
            for v in world.volumes.values()
            if v["metadata"]["name"] not in taken
            and not v["spec"].get("claimRef")
            and (v["spec"].get("storageClassName") or "") == name
            and set(claim["spec"]["accessModes"]) <= set(v["spec"]["accessModes"])
            and selector_of(claim["spec"].get("selector") or {}).matches(v["metadata"].get("labels"))
            and size(v) >= size(claim)
            and reaches(v, node)
        ]
        fitting.sort(key=lambda v: (size(v), v["metadata"]["name"]))
        if fitting:
            taken.add(fitting[0]["metadata"]["name"])
        elif world.classes[name]["provisioner"] == "kubernetes.io/no-provisioner":
            reasons.append(NONE)
            break
    return reasons


def zones(pod, node, world):
    labels = node["metadata"].get("labels") or {}
    if not any(key in labels for key in LABELS):
        return []
    for claim in claims_of(pod, world.claims):
        volume = world.volumes.get(claim["spec"].get("volumeName")) if not isinstance(claim, str) else None
        for key in LABELS:
            allowed = ((volume or {}).get("metadata", {}).get("labels") or {}).get(key)
            if allowed is not None and labels.get(key) not in allowed.split("__"):
                return [ZONE]
    return []


# --- devices


def nanos(text):
    return parse_quantity(text).nanos


def deals(requests, devices, held):
    """Every way to give each request its devices; `held` are names of devices that others have."""
    options = []
    for request in requests:
        matching = [d for d in devices if request["model"] in (None, d["attributes"]["model"]["string"])]
        if request["count"] is None:
            options.append([tuple(matching)] if matching else [])
        else:
            options.append(list(itertools.combinations_with_replacement(matching, request["count"])))
    for choice in itertools.product(*options):
        if fair(choice, requests, held):
            yield choice


def fair(choice, requests, held):
    every = [(d, r) for devices, r in zip(choice, requests, strict=True) for d in devices]
    uses = Counter(d["name"] for d, _ in every)
    for device, _ in every:
        if not device.get("allowMultipleAllocations") and (uses[device["name"]] > 1 or device["name"] in held):
            return False
    return all(enough(device, every, held) for device, _ in every) and counted(every, held)


def enough(device, every, held):
    most = nanos(device["capacity"]["memory"]["value"])
    if not device.get("allowMultipleAllocations"):
        return all(nanos(r["memory"] or "0") <= most for d, r in every if d is device)
    used = held.get(device["name"], 0)
    return used + sum(nanos(r["memory"]) if r["memory"] else most for d, r in every if d is device) <= most


def counted(every, held):
    """All parts of the one piece of hardware, of which there are 8."""
    there = {d["name"]: d for d, _ in every} | {name: held["parts"][name] for name in held if name != "parts"}
    total = sum(
        int(d["consumesCounters"][0]["counters"]["c"]["value"]) for d in there.values() if "consumesCounters" in d
    )
    return total <= 8
