"""Short ways to write the objects of scheduling tests."""

from peavine.scheduler.cluster import Cluster
from peavine.scheduler.context import Context, DictLister
from peavine.scheduler.template import Pod, Templates


def node(name, cpu="4", memory="16Gi", pods="110", labels=None, taints=None, unschedulable=False, **allocatable):
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": taints or [], "unschedulable": unschedulable},
        "status": {
            "allocatable": {
                "cpu": cpu,
                "memory": memory,
                "pods": pods,
                **{k.replace("__", "/").replace("_", "-"): v for k, v in allocatable.items()},
            }
        },
    }


def pod(name, cpu=None, memory=None, on="", priority=0, labels=None, namespace="default", meta=None, **spec):
    requests = {k: v for k, v in (("cpu", cpu), ("memory", memory)) if v}
    container = {"name": "c", "image": "pause", "resources": {"requests": requests}}
    full = {"containers": [container], "priority": priority, **spec}
    if on:
        full["nodeName"] = on
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": labels or {},
            **(meta or {}),
        },
        "spec": full,
        "status": {},
    }


class World:
    """A cluster's picture from objects, with listers of other kinds."""

    def __init__(self, nodes=(), pods=(), **listed):
        self.templates, self.cluster = Templates(), Cluster()
        self.listers = {plural: DictLister(objects) for plural, objects in listed.items()}
        self.context = Context(self.cluster, self.listers.get)
        for one in nodes:
            self.cluster.set_node(one)
        for one in pods:
            self.cluster.add_pod(Pod(one, self.templates))

    def pod(self, obj):
        return Pod(obj, self.templates)
