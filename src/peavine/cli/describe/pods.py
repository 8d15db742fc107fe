"""Pods and pod templates."""

from __future__ import annotations

from typing import Any

from peavine.cli.describe.text import Text, annotation_lines, labels, when
from peavine.cli.describe.volumes import volume_source

Object = dict[str, Any]


def describe_pod(pod: Object) -> Text:
    text = Text()
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    text.field(0, "Name", meta["name"])
    text.field(0, "Namespace", meta.get("namespace", ""))
    if spec.get("priority") is not None:
        text.field(0, "Priority", spec["priority"])
        if spec.get("priorityClassName"):
            text.field(0, "Priority Class Name", spec["priorityClassName"])
    if spec.get("runtimeClassName"):
        text.field(0, "Runtime Class Name", spec["runtimeClassName"])
    if spec.get("serviceAccountName"):
        text.field(0, "Service Account", spec["serviceAccountName"])
    node = spec.get("nodeName")
    text.field(0, "Node", f"{node}/{status.get('hostIP', '')}" if node else "<none>")
    if status.get("startTime"):
        text.field(0, "Start Time", when(status["startTime"]))
    labels(text, 0, "Labels", meta.get("labels"))
    annotation_lines(text, 0, "Annotations", meta.get("annotations"))
    if meta.get("deletionTimestamp"):
        from peavine.cli.describe.text import ago

        text.field(0, "Status", f"Terminating (lasts {ago(meta['deletionTimestamp'])})")
        text.field(0, "Termination Grace Period", f"{meta.get('deletionGracePeriodSeconds', 0)}s")
    else:
        text.field(0, "Status", status.get("phase", ""))
    for field, name in (("reason", "Reason"), ("message", "Message")):
        if status.get(field):
            text.field(0, name, status[field])
    if (spec.get("securityContext") or {}).get("seccompProfile"):
        _seccomp(text, 0, spec["securityContext"]["seccompProfile"])
    text.field(0, "IP", status.get("podIP", ""))
    _ips(text, status.get("podIPs") or [])
    owner = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), None)
    if owner:
        text.field(0, "Controlled By", f"{owner['kind']}/{owner['name']}")
    if status.get("nominatedNodeName"):
        text.field(0, "NominatedNodeName", status["nominatedNodeName"])
    if spec.get("initContainers"):
        containers(text, "Init Containers", spec["initContainers"], status.get("initContainerStatuses"), pod=pod)
    containers(text, "Containers", spec.get("containers") or [], status.get("containerStatuses"), pod=pod)
    if spec.get("ephemeralContainers"):
        containers(
            text, "Ephemeral Containers", spec["ephemeralContainers"], status.get("ephemeralContainerStatuses"), pod=pod
        )
    if spec.get("readinessGates"):
        text.line(0, "Readiness Gates:")
        text.line(1, "Type\tStatus")
        have = {c["type"]: c["status"] for c in status.get("conditions") or ()}
        for gate in spec["readinessGates"]:
            text.line(1, f"{gate['conditionType']} \t{have.get(gate['conditionType'], '<none>')} ")
    if status.get("conditions"):
        text.line(0, "Conditions:")
        text.line(1, "Type\tStatus")
        for condition in status["conditions"]:
            text.line(1, f"{condition['type']} \t{condition['status']} ")
    _volumes(text, spec.get("volumes"), "")
    if status.get("qosClass"):
        text.field(0, "QoS Class", status["qosClass"])
    labels(text, 0, "Node-Selectors", spec.get("nodeSelector"))
    tolerations(text, "Tolerations", spec.get("tolerations"))
    _spread(text, spec.get("topologySpreadConstraints"))
    return text


def _seccomp(text: Text, at: int, profile: Object) -> None:
    text.field(at, "SeccompProfile", profile["type"])
    if profile["type"] == "Localhost":
        text.field(at, "LocalhostProfile", profile.get("localhostProfile", ""))


def _ips(text: Text, ips: list[Object]) -> None:
    if not ips:
        text.line(0, "IPs:\t<none>")
        return
    text.line(0, "IPs:\t")
    for entry in ips:
        text.line(1, f"IP:\t{entry['ip']}")


def describe_template(template: Object) -> str:
    """A pod template, as `rollout history --revision` shows it: not aligned."""
    text = Text()
    text.line(0, "Pod Template:")
    pod_template(text, template)
    return text.raw()


def pod_template(text: Text, template: Object) -> None:
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    labels(text, 1, "Labels", meta.get("labels"))
    if meta.get("annotations"):
        annotation_lines(text, 1, "Annotations", meta["annotations"])
    if spec.get("serviceAccountName"):
        text.field(1, "Service Account", spec["serviceAccountName"])
    if spec.get("initContainers"):
        containers(text, "Init Containers", spec["initContainers"], None, level=1)
    containers(text, "Containers", spec.get("containers") or [], None, level=1)
    _volumes(text, spec.get("volumes"), "  ")
    _spread(text, spec.get("topologySpreadConstraints"), level=1)
    if spec.get("priorityClassName"):
        text.field(1, "Priority Class Name", spec["priorityClassName"])
    labels(text, 1, "Node-Selectors", spec.get("nodeSelector"))
    tolerations(text, "Tolerations", spec.get("tolerations"), level=1)


def containers(
    text: Text,
    title: str,
    found: list[Object],
    statuses: list[Object] | None,
    *,
    level: int = 0,
    pod: Object | None = None,
) -> None:
    by_name = {status["name"]: status for status in statuses or ()}
    text.line(level, f"{title}:")
    for container in found:
        status = by_name.get(container["name"])
        text.line(1, f"{' ' * level}{container['name']}:")
        at = 2
        _basics(text, container, status, at)
        _command(text, container, at)
        if status is not None:
            _state(text, "State", status.get("state") or {}, at)
            if (status.get("lastState") or {}).get("terminated"):
                _state(text, "Last State", status["lastState"], at)
            text.field(at, "Ready", "True" if status.get("ready") else "False")
            text.field(at, "Restart Count", status.get("restartCount", 0))
        _resources(text, container.get("resources") or {}, at)
        for field, name in (
            ("livenessProbe", "Liveness"),
            ("readinessProbe", "Readiness"),
            ("startupProbe", "Startup"),
        ):
            if container.get(field):
                text.field(at, name, probe_text(container[field]))
        _env_from(text, container.get("envFrom"), at)
        _env(text, container, at, pod)
        _mounts(text, container, at)


def _basics(text: Text, container: Object, status: Object | None, at: int) -> None:
    if status is not None:
        text.field(at, "Container ID", status.get("containerID", ""))
    text.field(at, "Image", container.get("image", ""))
    if status is not None:
        text.field(at, "Image ID", status.get("imageID", ""))
    ports = [f"{p['containerPort']}/{p.get('protocol', 'TCP')}" for p in container.get("ports") or ()]
    hosts = [f"{p.get('hostPort', 0)}/{p.get('protocol', 'TCP')}" for p in container.get("ports") or ()]
    many = len(ports) > 1
    text.field(at, "Ports" if many else "Port", ", ".join(ports) or "<none>")
    text.field(at, "Host Ports" if many else "Host Port", ", ".join(hosts) or "<none>")
    profile = (container.get("securityContext") or {}).get("seccompProfile")
    if profile:
        _seccomp(text, at, profile)


def _command(text: Text, container: Object, at: int) -> None:
    for field, name in (("command", "Command"), ("args", "Args")):
        if container.get(field):
            text.line(at, f"{name}:")
            for word in container[field]:
                for part in word.split("\n"):
                    text.line(at + 1, part)


def _state(text: Text, name: str, state: Object, at: int) -> None:
    if "running" in state:
        text.field(at, name, "Running")
        text.field(at + 1, "Started", when(state["running"].get("startedAt")))
    elif "terminated" in state:
        ended = state["terminated"]
        text.field(at, name, "Terminated")
        if ended.get("reason"):
            text.field(at + 1, "Reason", ended["reason"])
        if ended.get("message"):
            text.field(at + 1, "Message", ended["message"])
        text.field(at + 1, "Exit Code", ended.get("exitCode", 0))
        if ended.get("signal"):
            text.field(at + 1, "Signal", ended["signal"])
        text.field(at + 1, "Started", when(ended.get("startedAt")))
        text.field(at + 1, "Finished", when(ended.get("finishedAt")))
    else:
        text.field(at, name, "Waiting")
        if (state.get("waiting") or {}).get("reason"):
            text.field(at + 1, "Reason", state["waiting"]["reason"])


def _resources(text: Text, resources: Object, at: int) -> None:
    for field, name in (("limits", "Limits"), ("requests", "Requests")):
        if resources.get(field):
            text.line(at, f"{name}:")
            for key in sorted(resources[field]):
                text.field(at + 1, key, resources[field][key])


def probe_text(probe: Object) -> str:
    """A probe in one line."""
    times = (
        f"delay={probe.get('initialDelaySeconds', 0)}s timeout={probe.get('timeoutSeconds', 0)}s "
        f"period={probe.get('periodSeconds', 0)}s #success={probe.get('successThreshold', 0)} "
        f"#failure={probe.get('failureThreshold', 0)}"
    )
    if "exec" in probe:
        return f"exec [{' '.join(probe['exec'].get('command') or ())}] {times}"
    if "httpGet" in probe:
        get = probe["httpGet"]
        host, scheme = get.get("host", ""), get.get("scheme", "HTTP").lower()
        return f"http-get {scheme}://{host}:{get.get('port')}{get.get('path', '')} {times}"
    if "tcpSocket" in probe:
        return f"tcp-socket {probe['tcpSocket'].get('host', '')}:{probe['tcpSocket'].get('port')} {times}"
    if "grpc" in probe:
        return f"grpc <pod>:{probe['grpc'].get('port')} {probe['grpc'].get('service', '')} {times}"
    return f"unknown {times}"


def _env_from(text: Text, sources: list[Object] | None, at: int) -> None:
    if not sources:
        return
    text.line(at, "Environment Variables from:")
    for source in sources:
        kind = "ConfigMap" if "configMapRef" in source else "Secret"
        reference = source.get("configMapRef") or source.get("secretRef") or {}
        prefix = f" with prefix '{source['prefix']}'" if source.get("prefix") else ""
        text.line(
            at + 1,
            f"{reference.get('name')}\t{kind}{prefix}\tOptional: {str(reference.get('optional', False)).lower()}",
        )


def _field_value(pod: Object | None, path: str) -> str:
    """What a field reference to a pod's metadata comes to; empty for a template."""
    if pod is None or not path.startswith("metadata."):
        return ""
    value = pod["metadata"].get(path.removeprefix("metadata."), "")
    return value if isinstance(value, str) else ""


def _resource_value(container: Object, pod: Object | None, ref: Object) -> str:
    """What a reference to a container's resources comes to, in units of its divisor, rounded up."""
    from peavine.machinery.quantity import parse_quantity

    if ref.get("containerName") and pod is not None:
        container = next((c for c in pod["spec"]["containers"] if c["name"] == ref["containerName"]), container)
    section, _, name = ref["resource"].partition(".")
    amount = ((container.get("resources") or {}).get(section) or {}).get(name, "0")
    divisor = parse_quantity(str(ref.get("divisor") or "0")).nanos or 10**9
    return str(-(-parse_quantity(str(amount)).nanos // divisor))


def _env(text: Text, container: Object, at: int, pod: Object | None) -> None:
    env = container.get("env")
    if not env:
        text.line(at, "Environment:\t<none>")
        return
    text.line(at, "Environment:")
    for entry in env:
        source = entry.get("valueFrom")
        if not source:
            for line_at, line in enumerate(entry.get("value", "").split("\n")):
                text.line(at + 1, f"{entry['name']}:\t{line}" if line_at == 0 else f"\t{line}")
            continue
        if "fieldRef" in source:
            ref = source["fieldRef"]
            shown = f"{_field_value(pod, ref['fieldPath'])} ({ref.get('apiVersion', 'v1')}:{ref['fieldPath']})"
        elif "resourceFieldRef" in source:
            ref = source["resourceFieldRef"]
            shown = f"{_resource_value(container, pod, ref)} ({ref['resource']})"
        else:
            name, kind = ("secretKeyRef", "secret") if "secretKeyRef" in source else ("configMapKeyRef", "config map")
            ref = source.get(name) or {}
            optional = str(ref.get("optional", False)).lower()
            shown = (
                f"<set to the key '{ref.get('key')}' {'in' if kind == 'secret' else 'of'} {kind} '{ref.get('name')}'>"
            )
            text.line(at + 1, f"{entry['name']}:\t{shown}\tOptional: {optional}")
            continue
        text.line(at + 1, f"{entry['name']}:\t{shown}")


def _mounts(text: Text, container: Object, at: int) -> None:
    mounts = sorted(container.get("volumeMounts") or (), key=lambda m: m["mountPath"])
    if not mounts:
        text.line(at, "Mounts:\t<none>")
    else:
        text.line(at, "Mounts:")
        for mount in mounts:
            flags = ["ro" if mount.get("readOnly") else "rw"]
            if mount.get("subPath"):
                flags.append(f'path="{mount["subPath"]}"')
            text.line(at + 1, f"{mount['mountPath']} from {mount['name']} ({','.join(flags)})")
    if container.get("volumeDevices"):
        text.line(at, "Devices:")
        for device in container["volumeDevices"]:
            text.line(at + 1, f"{device['devicePath']} from {device['name']}")


def _volumes(text: Text, found: list[Object] | None, space: str) -> None:
    level = len(space) // 2
    if not found:
        text.line(level, "Volumes:\t<none>")
        return
    text.line(level, "Volumes:")
    for volume in found:
        text.line(1, f"{' ' * level}{volume['name']}:")
        volume_source(text, volume)


def tolerations(text: Text, title: str, found: list[Object] | None, *, level: int = 0) -> None:
    if not found:
        text.line(level, f"{title}:\t<none>")
        return
    shown = []
    for toleration in found:
        word = toleration.get("key", "")
        if toleration.get("value"):
            word += f"={toleration['value']}"
        if toleration.get("effect"):
            word += f":{toleration['effect']}"
        if toleration.get("operator") == "Exists" and not toleration.get("value"):
            word = f"{word} op=Exists" if word else "op=Exists"
        if toleration.get("tolerationSeconds") is not None:
            word += f" for {toleration['tolerationSeconds']}s"
        shown.append(word)
    for at, word in enumerate(sorted(shown)):
        text.line(level, f"{title}:\t{word}" if at == 0 else f"\t{word}")


def _spread(text: Text, constraints: list[Object] | None, *, level: int = 0) -> None:
    from peavine.cli.describe.text import selector_text

    for at, c in enumerate(constraints or ()):
        shown = f"{c['topologyKey']}:{c['whenUnsatisfiable']} when max skew {c['maxSkew']} is exceeded"
        if c.get("labelSelector"):
            shown += f" for selector {selector_text(c['labelSelector'])}"
        text.line(level, f"Topology Spread Constraints:\t{shown}" if at == 0 else f"\t{shown}")
