"""Security contexts: pod and container level merged into what CRI wants to hear."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peavine.kubelet.cri.runtime import (
    NAMESPACE_CONTAINER,
    NAMESPACE_NODE,
    NAMESPACE_POD,
    NAMESPACE_TARGET,
    PROFILE_LOCALHOST,
    PROFILE_RUNTIME_DEFAULT,
    PROFILE_UNCONFINED,
)
from peavine.kubelet.pods.environment import ConfigError

Object = dict[str, Any]

# What the default procMount hides, as every runtime's default does.
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
SAFE_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    )
)


def effective(pod: Object, container: Object, name: str) -> Any:
    """A field that the container's context may override."""
    own = (container.get("securityContext") or {}).get(name)
    return own if own is not None else ((pod.get("spec") or {}).get("securityContext") or {}).get(name)


def namespaces(pod: Object, target: str = "", users: Object | None = None) -> Object:
    """`target` is the container whose processes an ephemeral container is to see, `users` CRI's UserNamespace."""
    spec = pod.get("spec") or {}
    pid = NAMESPACE_CONTAINER
    if spec.get("hostPID"):
        pid = NAMESPACE_NODE
    elif spec.get("shareProcessNamespace"):
        pid = NAMESPACE_POD
    elif target:
        pid = NAMESPACE_TARGET
    options: Object = {
        "network": NAMESPACE_NODE if spec.get("hostNetwork") else NAMESPACE_POD,
        "pid": pid,
        "ipc": NAMESPACE_NODE if spec.get("hostIPC") else NAMESPACE_POD,
    }
    if pid == NAMESPACE_TARGET:
        options["target_id"] = target
    if users is not None:
        # Mode POD is zero.
        options["userns_options"] = users
    return options


def seccomp(profile: Object | None, *, privileged: bool, default: bool, root: Path) -> Object:
    """A SeccompProfile as CRI's SecurityProfile; `default`: RuntimeDefault where nothing is said."""
    kind = (profile or {}).get("type")
    if privileged or (kind is None and not default) or kind == "Unconfined":
        return {"profile_type": PROFILE_UNCONFINED}
    if kind == "Localhost":
        path = root / "seccomp" / ((profile or {}).get("localhostProfile") or "")
        return {"profile_type": PROFILE_LOCALHOST, "localhost_ref": str(path)}
    return {"profile_type": PROFILE_RUNTIME_DEFAULT}


def apparmor(pod: Object, container: Object) -> Object | None:
    """None: whatever the runtime does; a host without AppArmor refuses any other answer."""
    profile = effective(pod, container, "appArmorProfile")
    if not profile:
        return None
    kind = profile.get("type")
    if kind == "Unconfined":
        return {"profile_type": PROFILE_UNCONFINED}
    if kind == "Localhost":
        return {"profile_type": PROFILE_LOCALHOST, "localhost_ref": profile.get("localhostProfile", "")}
    return {"profile_type": PROFILE_RUNTIME_DEFAULT}


def _selinux(options: Object | None) -> Object | None:
    return {k: options[k] for k in ("user", "role", "type", "level") if options.get(k)} if options else None


def supplemental_groups(pod: Object, volume_groups: list[int]) -> list[int]:
    context = (pod.get("spec") or {}).get("securityContext") or {}
    groups = list(context.get("supplementalGroups") or [])
    if context.get("fsGroup") is not None:
        groups.append(context["fsGroup"])
    return list(dict.fromkeys([*groups, *volume_groups]))


def sandbox_context(pod: Object, *, default_seccomp: bool, root: Path, users: Object | None = None) -> Object:
    spec = pod.get("spec") or {}
    context = spec.get("securityContext") or {}
    privileged = any(
        (c.get("securityContext") or {}).get("privileged")
        for c in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    )
    found: Object = {
        "namespace_options": namespaces(pod, users=users),
        "privileged": privileged,
        # The sandbox itself runs nothing but pause.
        "seccomp": {"profile_type": PROFILE_RUNTIME_DEFAULT},
    }
    if context.get("runAsUser") is not None:
        found["run_as_user"] = {"value": context["runAsUser"]}
        if context.get("runAsGroup") is not None:
            found["run_as_group"] = {"value": context["runAsGroup"]}
    groups = supplemental_groups(pod, [])
    if groups:
        found["supplemental_groups"] = groups
    if context.get("seLinuxOptions"):
        found["selinux_options"] = _selinux(context["seLinuxOptions"])
    if context.get("supplementalGroupsPolicy") == "Strict":
        found["supplemental_groups_policy"] = 1
    return found


def container_context(
    pod: Object,
    container: Object,
    *,
    image_user: Object,
    target: str,
    volume_groups: list[int],
    default_seccomp: bool,
    root: Path,
    users: Object | None = None,
) -> Object:
    """CRI's LinuxContainerSecurityContext. `image_user` is CRI's Image (`uid`, `username`). Raises ConfigError."""
    context = container.get("securityContext") or {}
    privileged = bool(context.get("privileged"))
    user, group = effective(pod, container, "runAsUser"), effective(pod, container, "runAsGroup")
    if effective(pod, container, "runAsNonRoot"):
        _check_not_root(container, user, image_user)
    found: Object = {
        "privileged": privileged,
        "namespace_options": namespaces(pod, target, users),
        "readonly_rootfs": bool(context.get("readOnlyRootFilesystem")),
        "no_new_privs": _no_new_privs(context),
        "seccomp": seccomp(
            effective(pod, container, "seccompProfile"), privileged=privileged, default=default_seccomp, root=root
        ),
        "apparmor": apparmor(pod, container),
        "selinux_options": _selinux(effective(pod, container, "seLinuxOptions")),
    }
    if user is not None:
        found["run_as_user"] = {"value": user}
    elif image_user.get("uid"):
        found["run_as_user"] = {"value": image_user["uid"].get("value", 0)}
    elif image_user.get("username"):
        found["run_as_username"] = image_user["username"]
    else:
        found["run_as_user"] = {"value": 0}
    if group is not None:
        found["run_as_group"] = {"value": group}
    groups = supplemental_groups(pod, volume_groups)
    if groups:
        found["supplemental_groups"] = groups
    if ((pod.get("spec") or {}).get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict":
        found["supplemental_groups_policy"] = 1
    capabilities = context.get("capabilities") or {}
    if capabilities:
        found["capabilities"] = {
            "add_capabilities": list(capabilities.get("add") or []),
            "drop_capabilities": list(capabilities.get("drop") or []),
        }
    if not privileged and context.get("procMount") != "Unmasked":
        found["masked_paths"] = list(MASKED_PATHS)
        found["readonly_paths"] = list(READONLY_PATHS)
    return found


def _no_new_privs(context: Object) -> bool:
    return context.get("allowPrivilegeEscalation") is False and not context.get("privileged")


def _check_not_root(container: Object, user: int | None, image: Object) -> None:
    shown = f"container: {container['name']}"
    if user is not None:
        if user == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy ({shown})")
        return
    uid = image.get("uid")
    if uid is None and image.get("username"):
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({image['username']}),"
            f" cannot verify user is non-root ({shown})"
        )
    if uid is None or uid.get("value", 0) == 0:
        raise ConfigError(f"container has runAsNonRoot and image will run as root ({shown})")
