"""The kubelet's metrics: its own, and on `/metrics/probes`, `/metrics/resource`, `/metrics/cadvisor` those of pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peavine.kubelet.server.http import HttpError

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def render(kubelet: Kubelet, kind: str) -> tuple[bytes, str]:
    """(text, content type) of one of the four endpoints. Raises HttpError 404."""
    if kind == "cadvisor":
        from peavine.kubelet.server.cadvisor import collect

        return _text(await collect(kubelet)), CONTENT_TYPE
    makers = {"": _own, "probes": _probes, "resource": _resource}
    if kind not in makers:
        raise HttpError(404, "404 page not found")
    return makers[kind](kubelet), CONTENT_TYPE


def _text(families: dict[str, tuple[str, list[tuple[str, float]]]]) -> bytes:
    """name -> (type, [(labels, value)]) in the exposition format."""
    lines = []
    for name, (type_, samples) in families.items():
        lines.append(f"# TYPE {name} {type_}")
        lines += [f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in samples]
    return ("\n".join(lines) + "\n").encode()


def _own(kubelet: Kubelet) -> bytes:
    from peavine.base.metrics import exposition

    running = [w for w in kubelet.workers.values() if w.record.running()]
    volumes = _volumes(kubelet)
    states: dict[str, int] = {}
    for worker in kubelet.workers.values():
        for container in worker.record.containers:
            states[container.state] = states.get(container.state, 0) + 1
    return exposition() + _text(
        {
            "kubelet_running_pods": ("gauge", [("", len(running))]),
            "kubelet_running_containers": (
                "gauge",
                [(f'container_state="{state}"', count) for state, count in sorted(states.items())],
            ),
            "kubelet_desired_pods": ("gauge", [('static=""', len(kubelet.workers))]),
            "kubelet_managed_ephemeral_containers": ("gauge", [("", _ephemeral(kubelet))]),
            "kubelet_mirror_pods": ("gauge", [("", len(kubelet.source.mirrors))]),
            "kubelet_active_pods": ("gauge", [('static=""', len(running))]),
            "kubelet_volume_stats_available_bytes": ("gauge", volumes["availableBytes"]),
            "kubelet_volume_stats_capacity_bytes": ("gauge", volumes["capacityBytes"]),
            "kubelet_volume_stats_used_bytes": ("gauge", volumes["usedBytes"]),
            "kubelet_volume_stats_inodes": ("gauge", volumes["inodes"]),
            "kubelet_volume_stats_inodes_free": ("gauge", volumes["inodesFree"]),
            "kubelet_volume_stats_inodes_used": ("gauge", volumes["inodesUsed"]),
            "kubelet_node_name": ("gauge", [(f'node="{name}"', 1) for name in list(kubelet.nodes)[:1]]),
        }
    )


def _ephemeral(kubelet: Kubelet) -> int:
    return sum(
        len((worker.pod.get("spec") or {}).get("ephemeralContainers") or [])
        for worker in kubelet.workers.values()
        if not worker.resting
    )


def _volumes(kubelet: Kubelet) -> dict[str, list[tuple[str, float]]]:
    """Field of a volume's statistics -> samples, of volumes that belong to claims."""
    from peavine.kubelet.server.stats import claim_volumes

    found: dict[str, list[tuple[str, float]]] = {
        name: [] for name in ("availableBytes", "capacityBytes", "usedBytes", "inodes", "inodesFree", "inodesUsed")
    }
    for namespace, claim, numbers in claim_volumes(kubelet):
        labels = f'namespace="{namespace}",persistentvolumeclaim="{claim}"'
        for name, samples in found.items():
            samples.append((labels, float(numbers[name])))
    return found


def _probes(kubelet: Kubelet) -> bytes:
    samples = []
    for (type_, namespace, pod, uid, container, result), count in sorted(kubelet.probes.counts.items()):
        labels = f'container="{container}",namespace="{namespace}",pod="{pod}",pod_uid="{uid}"'
        samples.append((f'{labels},probe_type="{type_}",result="{result}"', float(count)))
    return _text({"prober_probe_total": ("counter", samples)})


def _measured(kubelet: Kubelet):  # type: ignore[no-untyped-def]
    """(labels of the pod, labels of the container or None, usage, container) of everything that runs."""
    from peavine.kubelet.server.stats import container_group
    from peavine.linux import cgroups

    for worker in list(kubelet.workers.values()):
        running = worker.record.running()
        if not running:
            continue
        meta = worker.pod["metadata"]
        labels = f'namespace="{meta.get("namespace", "default")}",pod="{meta["name"]}"'
        yield labels, None, cgroups.usage(kubelet.pod_group(worker.pod)), None
        for container in running:
            usage = cgroups.usage(container_group(kubelet, worker, container.id))
            yield labels, f'container="{container.name}",{labels}', usage, container


def _resource(kubelet: Kubelet) -> bytes:
    from peavine.kubelet.server.stats import node_usage

    names = {
        "container_cpu_usage_seconds_total": "counter",
        "container_memory_working_set_bytes": "gauge",
        "container_start_time_seconds": "gauge",
        "pod_cpu_usage_seconds_total": "counter",
        "pod_memory_working_set_bytes": "gauge",
    }
    found: dict[str, tuple[str, list[tuple[str, float]]]] = {name: (type_, []) for name, type_ in names.items()}
    for pod, container, usage, record in _measured(kubelet):
        prefix, labels = ("container", container) if container else ("pod", pod)
        found[f"{prefix}_cpu_usage_seconds_total"][1].append((labels, usage.cpu_nanoseconds / 1e9))
        found[f"{prefix}_memory_working_set_bytes"][1].append((labels, usage.working_set_bytes))
        if record is not None:
            found["container_start_time_seconds"][1].append((labels, record.started_at / 1e9))
    node = node_usage()
    found["node_cpu_usage_seconds_total"] = ("counter", [("", node.cpu_nanoseconds / 1e9)])
    found["node_memory_working_set_bytes"] = ("gauge", [("", node.working_set_bytes)])
    found["resource_scrape_error"] = ("gauge", [("", 0)])
    return _text(found)
