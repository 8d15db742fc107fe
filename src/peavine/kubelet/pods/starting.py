"""Bringing up: the sandbox, then one container: image, configuration, creation, start, postStart hook."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from peavine.kubelet.cri.runtime import Message, RpcError
from peavine.kubelet.images.puller import ImageError
from peavine.kubelet.pods import containers, dns, resizing, security, termination
from peavine.kubelet.pods.actions import should_restart
from peavine.kubelet.pods.environment import ConfigError, environment
from peavine.kubelet.pods.hooks import HookError, run_hook
from peavine.kubelet.pods.killing import field_path, kill_container
from peavine.kubelet.pods.records import Container, Sandbox, container_record, sandbox_record
from peavine.kubelet.pods.sandbox import sandbox_config
from peavine.machinery.errors import ApiError

if TYPE_CHECKING:
    from peavine.kubelet.pods.worker import PodWorker

log = logging.getLogger(__name__)
Object = dict[str, Any]


def sandbox_message(worker: PodWorker, attempt: int) -> Message:
    """CRI's PodSandboxConfig of the pod. Raises ValueError."""
    kubelet, pod = worker.kubelet, worker.pod
    options = kubelet.options

    def warn(reason: str, message: str) -> None:
        kubelet.recorder.event(pod, "Warning", reason, message)

    node_name = kubelet.node_name_of(worker)
    return sandbox_config(
        pod,
        attempt=attempt,
        hostname=dns.sandbox_hostname(pod, options.cluster_domain, node_name),
        resolver=dns.pod_resolver(
            pod,
            cluster_dns=options.cluster_dns,
            cluster_domain=options.cluster_domain,
            host=lambda: dns.host_resolver(options.resolv_conf),
            warn=warn,
        ),
        log_directory=kubelet.paths.logs(pod),
        cgroup_parent=kubelet.pod_group(pod) if options.cgroups else "",
        root=options.root_dir,
        default_seccomp=options.seccomp_default,
        users=kubelet.user_namespace(pod),
    )


async def start_sandbox(worker: PodWorker, attempt: int) -> Sandbox:
    kubelet, pod = worker.kubelet, worker.pod
    kubelet.prepare_pod(pod)
    try:
        handler = await kubelet.runtime_handler(pod)
        _check_user_namespace(worker, handler)
        config = sandbox_message(worker, attempt)
        sandbox_id = await kubelet.runtime.run_sandbox(config, handler)
    except (RpcError, ValueError) as error:
        kubelet.recorder.event(pod, "Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
        if isinstance(error, ValueError):
            raise ConfigError(str(error)) from error
        raise
    return sandbox_record(await kubelet.runtime.sandbox_status(sandbox_id))


def _check_user_namespace(worker: PodWorker, handler: str) -> None:
    """Raises ValueError: a pod that asks for IDs of its own must not run without."""
    kubelet, wanted = worker.kubelet, (worker.pod.get("spec") or {}).get("hostUsers") is False
    if wanted and kubelet.options.cgroups and not kubelet.features.handler_can(handler, "user_namespaces"):
        raise ValueError(f'RuntimeClass handler "{handler}" does not support user namespaces')


def _crash_key(worker: PodWorker, spec: Object) -> str:
    from peavine.kubelet.pods.actions import container_hash

    return f"{worker.uid}_{spec['name']}_{container_hash(spec)}"


def _go_seconds(seconds: float) -> str:
    """10s, 1m20s, 5m0s: Go's duration in whole seconds."""
    whole = int(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"


def _in_backoff(worker: PodWorker, spec: Object, last: Container | None) -> float | None:
    """Seconds that a crashed container still has to wait; None if it may start. Counts the start."""
    kubelet = worker.kubelet
    if last is None or last.state != "exited" or last.finished_at <= 0:
        return None
    key, now, ended = _crash_key(worker, spec), kubelet.clock.time(), last.finished_at / 1e9
    wait = kubelet.crashes.wait(key, ended, now)
    if wait <= 0:
        kubelet.crashes.count(key, ended)
        return None
    name = spec["name"]
    kubelet.recorder.event(
        worker.pod,
        "Warning",
        "BackOff",
        f"Back-off restarting failed container {name} in pod {worker.described}",
        field_path=field_path(worker.pod, name),
    )
    shown = _go_seconds(kubelet.crashes.delay(key))
    message = f"back-off {shown} restarting failed container={name} pod={worker.described}"
    worker.reasons[name] = ("CrashLoopBackOff", message)
    return wait


async def start_container(worker: PodWorker, spec: Object, sandbox_id: str) -> float | None:
    """Start one container; returns seconds to wait if it may not or could not start now."""
    name = spec["name"]
    last = worker.record.latest(name)
    if last is not None and not should_restart(worker.pod, spec, last) and last.state != "running":
        return None
    # That its sandbox was lost is not the container's fault.
    wait = _in_backoff(worker, spec, last) if last is None or last.sandbox_id == sandbox_id else None
    if wait is not None:
        return wait
    kubelet = worker.kubelet

    def record(type_: str, reason: str, message: str) -> None:
        kubelet.recorder.event(worker.pod, type_, reason, message, field_path=field_path(worker.pod, name))

    try:
        image = await kubelet.puller.ensure(
            spec.get("image", ""),
            spec.get("imagePullPolicy") or "",
            owner=worker.uid,
            record=record,
            credentials=lambda image_name: kubelet.credentials(worker.pod, image_name),
        )
    except ImageError as error:
        record("Warning", "Failed", f"Error: {error.reason}")
        worker.reasons[name] = (error.reason, error.message)
        wait = kubelet.puller.waiting_seconds(worker.uid)
        # A pull that has just failed is soon looked at again, and then said to be backing off.
        soon = 1.0 if error.reason in ("ErrImagePull", "RegistryUnavailable") else 10.0
        return 10.0 if wait is None else min(soon, max(0.1, wait))
    attempt = _next_attempt(worker, name, last)
    try:
        config = await _config(worker, spec, image, attempt, sandbox_id)
    except (ConfigError, ApiError, ValueError, OSError) as error:
        record("Warning", "Failed", f"Error: {error}")
        worker.reasons[name] = ("CreateContainerConfigError", str(error))
        return 10.0
    try:
        sandbox = sandbox_message(worker, 0)
        container_id = await kubelet.runtime.create_container(sandbox_id, config, sandbox)
    except RpcError as error:
        record("Warning", "Failed", f"Error: {error.message}")
        worker.reasons[name] = ("CreateContainerError", error.message)
        return 10.0
    kubelet.watch.index_container(worker, container_id)
    record("Normal", "Created", "Container created")
    resizing.grant(worker, spec)
    try:
        await kubelet.runtime.start_container(container_id)
    except RpcError as error:
        record("Warning", "Failed", f"Error: {error.message}")
        worker.reasons[name] = ("RunContainerError", error.message)
        kubelet.watch.nudge()
        return 1.0
    record("Normal", "Started", "Container started")
    worker.reasons.pop(name, None)
    hook = (spec.get("lifecycle") or {}).get("postStart")
    if hook:
        await _post_start(worker, spec, hook, container_id, sandbox_id)
    return None


def _next_attempt(worker: PodWorker, name: str, last: Container | None) -> int:
    if last is not None:
        return last.restart_count + 1
    # The containers may have been collected: their logs say how often it was started.
    highest = -1
    try:
        for entry in os.scandir(worker.kubelet.paths.logs(worker.pod) / name):
            number = entry.name.partition(".")[0]
            highest = max(highest, int(number) if number.isdigit() else -1)
    except OSError:
        return 0
    return highest + 1


async def _post_start(worker: PodWorker, spec: Object, hook: Object, container_id: str, sandbox_id: str) -> None:
    """Until the hook is through, the container counts as not started; if it fails, the container is killed."""
    kubelet, name = worker.kubelet, spec["name"]
    worker.hooks_pending |= {container_id}
    try:
        ips = worker.record.ips or (await _sandbox_ips(worker, sandbox_id))
        await run_hook(
            hook,
            container=spec,
            container_id=container_id,
            pod_ip=(ips or [""])[0],
            runtime=kubelet.runtime,
            clock=kubelet.clock,
        )
    except HookError as error:
        log.info("postStart of %s in pod %s: %s", name, worker.key, error)
        kubelet.recorder.event(
            worker.pod,
            "Warning",
            "FailedPostStartHook",
            "PostStartHook failed",
            field_path=field_path(worker.pod, name),
        )
        worker.reasons[name] = ("PostStartHookError", str(error))
        status = container_record(await kubelet.runtime.container_status(container_id), sandbox_id)
        await kill_container(worker, status, spec, "FailedPostStartHook", None)
    finally:
        worker.hooks_pending -= {container_id}


async def _sandbox_ips(worker: PodWorker, sandbox_id: str) -> list[str]:
    return sandbox_record(await worker.kubelet.runtime.sandbox_status(sandbox_id)).ips


async def _config(worker: PodWorker, spec: Object, image: Message, attempt: int, sandbox_id: str) -> Message:
    kubelet, pod = worker.kubelet, worker.pod
    namespace = pod["metadata"].get("namespace", "default")
    ips = worker.record.ips or await _sandbox_ips(worker, sandbox_id)
    worker.kubelet.note_ips(worker, ips)
    variables = await environment(
        pod,
        spec,
        kubelet.facts(pod, ips),
        kubelet.service_variables(pod),
        lambda kind, name: kubelet.objects.lookup(kind, namespace, name),
    )
    assert worker.volumes is not None
    mounts, devices = kubelet.volumes.container_mounts(pod, spec, worker.volumes, variables)
    await _settle_recursive_read_only(worker, spec, mounts)
    mounts += _own_mounts(worker, spec, attempt, ips, {m["container_path"] for m in mounts})
    target = ""
    if spec.get("targetContainerName"):
        found = worker.record.latest(spec["targetContainerName"])
        if found is None:
            raise ConfigError(f"unable to find target container {spec['targetContainerName']}")
        target = found.id
    resources = kubelet.container_resources(pod, spec)
    linux = {
        "resources": resources,
        "security_context": security.container_context(
            pod,
            spec,
            image_user=image,
            target=target,
            volume_groups=worker.volumes.groups,
            default_seccomp=kubelet.options.seccomp_default,
            root=kubelet.options.root_dir,
            users=kubelet.user_namespace(pod),
        ),
    }
    extra = await kubelet.devices_of(worker, spec)
    variables |= extra.environment
    return containers.container_config(
        pod,
        spec,
        attempt=attempt,
        image_ref=image["id"],
        environment=variables,
        mounts=mounts + extra.mounts,
        devices=devices + extra.devices,
        cdi_devices=extra.cdi_devices,
        linux=linux,
    )


async def _settle_recursive_read_only(worker: PodWorker, spec: Object, mounts: list[Message]) -> None:
    """`IfPossible` becomes what the runtime can; `Enabled` where it cannot is refused. Raises ConfigError."""
    asked = {
        mount["mountPath"]: mount["recursiveReadOnly"]
        for mount in spec.get("volumeMounts") or []
        if mount.get("recursiveReadOnly") in ("Enabled", "IfPossible")
    }
    if not asked:
        return
    kubelet = worker.kubelet
    handler = await kubelet.runtime_handler(worker.pod)
    able = kubelet.features.handler_can(handler, "recursive_read_only_mounts")
    if not able and "Enabled" in asked.values():
        raise ConfigError(f'failed to resolve recursive read-only mode: runtime handler "{handler}" lacks it')
    for mount in mounts:
        if able and mount["container_path"] in asked and mount.get("readonly"):
            mount["recursive_read_only"] = True
    if able:
        worker.recursive = worker.recursive | {(spec["name"], path) for path in asked}


def _own_mounts(worker: PodWorker, spec: Object, attempt: int, ips: list[str], taken: set[str]) -> list[Message]:
    """What the kubelet itself puts into a container: /etc/hosts, and the file for its last words."""
    kubelet, pod = worker.kubelet, worker.pod
    if not kubelet.options.cgroups:
        # The simulated runtime mounts nothing.
        return []
    found = []
    hosts = kubelet.paths.hosts(worker.uid)
    if "/etc/hosts" not in taken:
        text = dns.hosts_file(pod, ips, kubelet.options.cluster_domain, kubelet.node_name_of(worker))
        if not hosts.exists() or hosts.read_text() != text:
            hosts.write_text(text)
        found.append({"container_path": "/etc/hosts", "host_path": str(hosts)})
    path = spec.get("terminationMessagePath") or containers.TERMINATION_PATH_DEFAULT
    file = termination.file_of(kubelet.paths, worker.uid, spec["name"], attempt)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    # The container's user, whoever that is, must be able to write it.
    file.chmod(0o666)
    found.append({"container_path": path, "host_path": str(file)})
    return found
