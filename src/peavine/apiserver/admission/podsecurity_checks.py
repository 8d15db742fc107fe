"""The Pod Security Standards: every check of the baseline and restricted levels, pure, over all kinds of containers.

A check answers None, or what is forbidden and where, in upstream's words. `version` is (1, minor): checks that came or
changed in a later version do not hold an older one's pods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Object = dict[str, Any]
Version = tuple[int, int]
Finding = tuple[str, str]  # the reason, and the detail

LATEST: Version = (1, 37)
PRIVILEGED, BASELINE, RESTRICTED = "privileged", "baseline", "restricted"
LEVELS = (PRIVILEGED, BASELINE, RESTRICTED)

_DEFAULT_CAPABILITIES = frozenset(
    (
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    )
)
_SAFE_VOLUMES = frozenset(
    (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "image",
    )
)
# Sysctl -> the minor version from which it is safe.
_SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced": 0,
    "net.ipv4.ip_local_port_range": 0,
    "net.ipv4.tcp_syncookies": 0,
    "net.ipv4.ping_group_range": 0,
    "net.ipv4.ip_unprivileged_port_start": 0,
    "net.ipv4.ip_local_reserved_ports": 27,
    "net.ipv4.tcp_keepalive_time": 29,
    "net.ipv4.tcp_fin_timeout": 29,
    "net.ipv4.tcp_keepalive_intvl": 29,
    "net.ipv4.tcp_keepalive_probes": 29,
    "net.ipv4.tcp_rmem": 32,
    "net.ipv4.tcp_wmem": 32,
}
_APPARMOR_PREFIX = "container.apparmor.security.beta.kubernetes.io/"


def evaluate(level: str, version: Version, metadata: Object, spec: Object) -> list[Finding]:
    """Everything in the pod that the level forbids, baseline first; none for privileged."""
    if level == PRIVILEGED:
        return []
    overridden: dict[str, int] = _OVERRIDDEN if level == RESTRICTED else {}
    findings: list[Finding] = []
    for name, check in _BASELINE.items():
        if name in overridden and version[1] >= overridden[name]:
            continue
        found = check(metadata, spec, version)
        if found is not None:
            findings.append(found)
    if level == RESTRICTED:
        for check in _RESTRICTED.values():
            found = check(metadata, spec, version)
            if found is not None:
                findings.append(found)
    return findings


def containers_of(spec: Object) -> list[Object]:
    return [
        *(spec.get("initContainers") or ()),
        *(spec.get("containers") or ()),
        *(spec.get("ephemeralContainers") or ()),
    ]


def _context(holder: Object) -> Object:
    return holder.get("securityContext") or {}


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _named(names: list[str]) -> str:
    """`container "a"` or `containers "a", "b"`."""
    return f"{'container' if len(names) == 1 else 'containers'} {_quoted(names)}"


def _setters(pod: bool, names: list[str]) -> str:
    return " and ".join((["pod"] if pod else []) + ([_named(names)] if names else []))


def _windows(spec: Object) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _own_user_namespace(spec: Object, version: Version) -> bool:
    """Root in a user namespace of its own is nobody outside: some checks are relaxed for it from 1.33 on."""
    return spec.get("hostUsers") is False and version >= (1, 33)


# --- baseline ------------------------------------------------------------------------------------


def _apparmor(metadata: Object, spec: Object, version: Version) -> Finding | None:
    allowed = ("", "RuntimeDefault", "Localhost")
    setters, values = [], set()
    kind = (_context(spec).get("appArmorProfile") or {}).get("type", "")
    if kind not in allowed:
        setters.append("pod")
        values.add(kind)
    names = []
    for container in containers_of(spec):
        kind = (_context(container).get("appArmorProfile") or {}).get("type", "")
        if kind not in allowed:
            names.append(container["name"])
            values.add(kind)
    if names:
        setters.append(_named(names))
    noted = []
    for key, value in sorted((metadata.get("annotations") or {}).items()):
        good = value in ("", "runtime/default") or value.startswith("localhost/")
        if key.startswith(_APPARMOR_PREFIX) and not good:
            noted.append(f'{key}="{value}"')
            values.add(value)
    if noted:
        setters.append(f"{'annotation' if len(noted) == 1 else 'annotations'} {', '.join(noted)}")
    if not setters:
        return None
    reason = "forbidden AppArmor profile" + ("" if len(values) == 1 else "s")
    return reason, f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(sorted(values))}"


def _capabilities_baseline(metadata: Object, spec: Object, version: Version) -> Finding | None:
    names, added = [], set()
    for container in containers_of(spec):
        wrong = set((_context(container).get("capabilities") or {}).get("add") or ()) - _DEFAULT_CAPABILITIES
        if wrong:
            names.append(container["name"])
            added |= wrong
    if not names:
        return None
    detail = f"{_named(names)} must not include {_quoted(sorted(added))} in securityContext.capabilities.add"
    return "non-default capabilities", detail


def _host_namespaces(metadata: Object, spec: Object, version: Version) -> Finding | None:
    found = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return ("host namespaces", ", ".join(found)) if found else None


def _host_path_volumes(metadata: Object, spec: Object, version: Version) -> Finding | None:
    names = [volume["name"] for volume in spec.get("volumes") or () if "hostPath" in volume]
    if not names:
        return None
    return "hostPath volumes", f"{'volume' if len(names) == 1 else 'volumes'} {_quoted(names)}"


def _host_ports(metadata: Object, spec: Object, version: Version) -> Finding | None:
    names, ports = [], set()
    for container in containers_of(spec):
        used = {port["hostPort"] for port in container.get("ports") or () if port.get("hostPort")}
        if used:
            names.append(container["name"])
            ports |= used
    if not names:
        return None
    uses = "uses" if len(names) == 1 else "use"
    word = "hostPort" if len(ports) == 1 else "hostPorts"
    return word, f"{_named(names)} {uses} {word} {', '.join(map(str, sorted(ports, key=str)))}"


def _host_probes(metadata: Object, spec: Object, version: Version) -> Finding | None:
    """Probes and hooks that name a host make the node ask it: a way round network policies (from 1.34 on)."""
    if version < (1, 34):
        return None
    names: list[str] = []
    hosts: set[Any] = set()
    for container in containers_of(spec):
        handlers = [container.get(probe) or {} for probe in ("livenessProbe", "readinessProbe", "startupProbe")]
        handlers += [(container.get("lifecycle") or {}).get(hook) or {} for hook in ("postStart", "preStop")]
        used = {(handler.get(kind) or {}).get("host") for handler in handlers for kind in ("httpGet", "tcpSocket")} - {
            None,
            "",
            "127.0.0.1",
            "::1",
        }
        if used:
            names.append(container["name"])
            hosts |= used
    if not names:
        return None
    uses = "uses" if len(names) == 1 else "use"
    word = "probe or lifecycle host" + ("" if len(hosts) == 1 else "s")
    return "probe or lifecycle host", f"{_named(names)} {uses} {word} {_quoted(sorted(hosts))}"


def _privileged(metadata: Object, spec: Object, version: Version) -> Finding | None:
    names = [c["name"] for c in containers_of(spec) if _context(c).get("privileged")]
    return ("privileged", f"{_named(names)} must not set securityContext.privileged=true") if names else None


def _proc_mount(metadata: Object, spec: Object, version: Version) -> Finding | None:
    if _own_user_namespace(spec, version):
        return None
    names, values = [], set()
    for container in containers_of(spec):
        value = _context(container).get("procMount")
        if value not in (None, "Default"):
            names.append(container["name"])
            values.add(value)
    if not names:
        return None
    return "procMount", f"{_named(names)} must not set securityContext.procMount to {_quoted(sorted(values))}"


def _selinux(metadata: Object, spec: Object, version: Version) -> Finding | None:
    allowed = {"", "container_t", "container_init_t", "container_kvm_t"}
    if version >= (1, 31):
        allowed.add("container_engine_t")
    types: list[str] = []
    user = role = False

    def bad(holder: Object) -> bool:
        nonlocal user, role
        options = _context(holder).get("seLinuxOptions") or {}
        wrong = False
        if options.get("type", "") not in allowed:
            if options["type"] not in types:
                types.append(options["type"])
            wrong = True
        if options.get("user"):
            user = wrong = True
        if options.get("role"):
            role = wrong = True
        return wrong

    pod = bad(spec)
    names = [container["name"] for container in containers_of(spec) if bad(container)]
    if not pod and not names:
        return None
    parts = []
    if types:
        parts.append(f"{'type' if len(types) == 1 else 'types'} {_quoted(sorted(types))}")
    if user:
        parts.append("user may not be set")
    if role:
        parts.append("role may not be set")
    return "seLinuxOptions", f"{_setters(pod, names)} set forbidden securityContext.seLinuxOptions: {'; '.join(parts)}"


def _seccomp_baseline(metadata: Object, spec: Object, version: Version) -> Finding | None:
    pod, names, values = _bad_seccomp(spec)
    if not pod and not names:
        return None
    detail = f"{_setters(pod, names)} must not set securityContext.seccompProfile.type to {_quoted(values)}"
    return "seccompProfile", detail


def _bad_seccomp(spec: Object) -> tuple[bool, list[str], list[str]]:
    allowed, values = ("", "RuntimeDefault", "Localhost"), set()

    def bad(holder: Object) -> bool:
        kind = (_context(holder).get("seccompProfile") or {}).get("type", "")
        if kind in allowed:
            return False
        values.add(kind)
        return True

    pod = bad(spec)
    names = [container["name"] for container in containers_of(spec) if bad(container)]
    return pod, names, sorted(values)


def _sysctls(metadata: Object, spec: Object, version: Version) -> Finding | None:
    wrong = []
    for sysctl in _context(spec).get("sysctls") or ():
        since = _SAFE_SYSCTLS.get(sysctl.get("name", ""))
        if since is None or since > version[1]:
            wrong.append(sysctl.get("name", ""))
    return ("forbidden sysctls", ", ".join(wrong)) if wrong else None


def _windows_host_process(metadata: Object, spec: Object, version: Version) -> Finding | None:
    def bad(holder: Object) -> bool:
        return bool((_context(holder).get("windowsOptions") or {}).get("hostProcess"))

    pod, names = bad(spec), [container["name"] for container in containers_of(spec) if bad(container)]
    if not pod and not names:
        return None
    return "hostProcess", f"{_setters(pod, names)} must not set securityContext.windowsOptions.hostProcess=true"


# --- restricted ----------------------------------------------------------------------------------


def _escalation(metadata: Object, spec: Object, version: Version) -> Finding | None:
    if version < (1, 8) or (version >= (1, 25) and _windows(spec)):
        return None
    names = [c["name"] for c in containers_of(spec) if _context(c).get("allowPrivilegeEscalation") is not False]
    if not names:
        return None
    detail = f"{_named(names)} must set securityContext.allowPrivilegeEscalation=false"
    return "allowPrivilegeEscalation != false", detail


def _capabilities_restricted(metadata: Object, spec: Object, version: Version) -> Finding | None:
    if version < (1, 22) or (version >= (1, 25) and _windows(spec)):
        return None
    keeping, adding, added = [], [], set()
    for container in containers_of(spec):
        capabilities = _context(container).get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or ()):
            keeping.append(container["name"])
        wrong = set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}
        if wrong:
            adding.append(container["name"])
            added |= wrong
    details = []
    if keeping:
        details.append(f'{_named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        words = f"{_named(adding)} must not include {_quoted(sorted(added))} in securityContext.capabilities.add"
        details.append(words)
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def _restricted_volumes(metadata: Object, spec: Object, version: Version) -> Finding | None:
    names, kinds = [], set()
    for volume in spec.get("volumes") or ():
        kind = next((key for key in volume if key != "name"), "")
        if kind and kind not in _SAFE_VOLUMES:
            names.append(volume["name"])
            kinds.add(kind)
    if not names:
        return None
    who = f"{'volume' if len(names) == 1 else 'volumes'} {_quoted(names)} {'uses' if len(names) == 1 else 'use'}"
    word = "restricted volume type" + ("" if len(kinds) == 1 else "s")
    return "restricted volume types", f"{who} {word} {_quoted(sorted(kinds))}"


def _run_as_non_root(metadata: Object, spec: Object, version: Version) -> Finding | None:
    if _own_user_namespace(spec, version):
        return None
    pod = _context(spec).get("runAsNonRoot")
    explicit = [c["name"] for c in containers_of(spec) if _context(c).get("runAsNonRoot") is False]
    silent = [c["name"] for c in containers_of(spec) if _context(c).get("runAsNonRoot") is None]
    if pod is False or explicit:
        detail = f"{_setters(pod is False, explicit)} must not set securityContext.runAsNonRoot=false"
        return "runAsNonRoot != true", detail
    if not pod and silent:
        return "runAsNonRoot != true", f"pod or {_named(silent)} must set securityContext.runAsNonRoot=true"
    return None


def _run_as_user(metadata: Object, spec: Object, version: Version) -> Finding | None:
    if version < (1, 23) or _own_user_namespace(spec, version):
        return None
    pod = _context(spec).get("runAsUser") == 0
    names = [c["name"] for c in containers_of(spec) if _context(c).get("runAsUser") == 0]
    return ("runAsUser=0", f"{_setters(pod, names)} must not set runAsUser=0") if pod or names else None


def _seccomp_restricted(metadata: Object, spec: Object, version: Version) -> Finding | None:
    if version < (1, 19) or (version >= (1, 25) and _windows(spec)):
        return None
    pod, names, _ = _bad_seccomp(spec)
    if pod or names:
        return _seccomp_baseline(metadata, spec, version)
    if (_context(spec).get("seccompProfile") or {}).get("type"):
        return None
    silent = [c["name"] for c in containers_of(spec) if not (_context(c).get("seccompProfile") or {}).get("type")]
    if not silent:
        return None
    detail = f'pod or {_named(silent)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return "seccompProfile", detail


Check = Callable[[Object, Object, Version], Finding | None]

_BASELINE: dict[str, Check] = {
    "appArmorProfile": _apparmor,
    "capabilities_baseline": _capabilities_baseline,
    "hostNamespaces": _host_namespaces,
    "hostPathVolumes": _host_path_volumes,
    "hostPorts": _host_ports,
    "hostProbesAndHostLifecycle": _host_probes,
    "privileged": _privileged,
    "procMount": _proc_mount,
    "seLinuxOptions": _selinux,
    "seccompProfile_baseline": _seccomp_baseline,
    "sysctls": _sysctls,
    "windowsHostProcess": _windows_host_process,
}
_RESTRICTED: dict[str, Check] = {
    "allowPrivilegeEscalation": _escalation,
    "capabilities_restricted": _capabilities_restricted,
    "restrictedVolumes": _restricted_volumes,
    "runAsNonRoot": _run_as_non_root,
    "runAsUser": _run_as_user,
    "seccompProfile_restricted": _seccomp_restricted,
}
# Baseline checks whose matter a restricted one covers, and since which minor version.
_OVERRIDDEN = {"capabilities_baseline": 22, "hostPathVolumes": 0, "seccompProfile_baseline": 19}
