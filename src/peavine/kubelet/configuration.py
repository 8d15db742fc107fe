"""KubeletConfiguration (kubelet.config.k8s.io/v1beta1): the file, its drop-ins, and what is in force.

A field counts unless its flag was given on the command line, as upstream has it. A field that Peavine does not know
is refused by name: a setting that silently does nothing is worse than an error.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from peavine.kubelet.options import Options
from peavine.machinery.duration import format_duration, parse_duration
from peavine.machinery.quantity import parse_quantity

Object = dict[str, Any]
API_VERSION, KIND = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"


class ConfigurationError(ValueError):
    """The file cannot be used; the message names the field."""


def _seconds(value: Any) -> float:
    return parse_duration(value) if isinstance(value, str) else float(value)


def _same(value: Any) -> Any:
    return value


def _bytes(value: Any) -> int:
    return parse_quantity(value).value()


def _whole(seconds: Any) -> int:
    return int(_seconds(seconds))


def _each_seconds(value: dict[str, Any]) -> dict[str, float]:
    return {key: _seconds(text) for key, text in value.items()}


# Field -> (option, flag that wins over it, conversion)
FIELDS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "address": ("address", "address", _same),
    "port": ("port", "port", _same),
    "clusterDNS": ("cluster_dns", "cluster-dns", _same),
    "clusterDomain": ("cluster_domain", "cluster-domain", _same),
    "resolvConf": ("resolv_conf", "resolv-conf", _same),
    "podCIDR": ("pod_cidr", "pod-cidr", _same),
    "podLogsDir": ("pod_logs_dir", "pod-logs-dir", Path),
    "registerNode": ("register_node", "register-node", _same),
    "registerWithTaints": ("register_taints", "register-with-taints", _same),
    "providerID": ("provider_id", "provider-id", _same),
    "tlsCertFile": ("tls_cert_file", "tls-cert-file", _same),
    "tlsPrivateKeyFile": ("tls_private_key_file", "tls-private-key-file", _same),
    "rotateCertificates": ("rotate_certificates", "rotate-certificates", _same),
    "serverTLSBootstrap": ("server_tls_bootstrap", "rotate-server-certificates", _same),
    "maxPods": ("max_pods", "max-pods", _same),
    "podPidsLimit": ("pod_pids_limit", "pod-max-pids", _same),
    "staticPodPath": ("static_pod_path", "pod-manifest-path", _same),
    "syncFrequency": ("sync_frequency_seconds", "sync-frequency", _seconds),
    "serializeImagePulls": ("serialize_image_pulls", "serialize-image-pulls", _same),
    "maxParallelImagePulls": ("max_parallel_image_pulls", "max-parallel-image-pulls", _same),
    "seccompDefault": ("seccomp_default", "seccomp-default", _same),
    "allowedUnsafeSysctls": ("allowed_unsafe_sysctls", "allowed-unsafe-sysctls", _same),
    "cgroupRoot": ("cgroup_root", "cgroup-root", _same),
    "cpuCFSQuota": ("cpu_cfs_quota", "cpu-cfs-quota", _same),
    "containerLogMaxSize": ("container_log_max_bytes", "container-log-max-size", _bytes),
    "containerLogMaxFiles": ("container_log_max_files", "container-log-max-files", _same),
    "nodeStatusUpdateFrequency": ("node_status_update_seconds", "node-status-update-frequency", _seconds),
    "nodeStatusReportFrequency": ("node_status_report_seconds", "node-status-report-frequency", _seconds),
    "nodeLeaseDurationSeconds": ("lease_duration_seconds", "node-lease-duration-seconds", _same),
    "systemReserved": ("system_reserved", "system-reserved", _same),
    "kubeReserved": ("kube_reserved", "kube-reserved", _same),
    "evictionHard": ("eviction_hard", "eviction-hard", _same),
    "evictionSoft": ("eviction_soft", "eviction-soft", _same),
    "evictionSoftGracePeriod": ("eviction_soft_grace_seconds", "eviction-soft-grace-period", _each_seconds),
    "evictionMinimumReclaim": ("eviction_minimum_reclaim", "eviction-minimum-reclaim", _same),
    "evictionMaxPodGracePeriod": ("eviction_max_pod_grace_seconds", "eviction-max-pod-grace-period", _same),
    "evictionPressureTransitionPeriod": (
        "eviction_pressure_transition_seconds",
        "eviction-pressure-transition-period",
        _seconds,
    ),
    "imageGCHighThresholdPercent": ("image_gc_high_percent", "image-gc-high-threshold", _same),
    "imageGCLowThresholdPercent": ("image_gc_low_percent", "image-gc-low-threshold", _same),
    "imageMinimumGCAge": ("image_minimum_age_seconds", "", _seconds),
    "shutdownGracePeriod": ("shutdown_grace_seconds", "shutdown-grace-period", _seconds),
    "shutdownGracePeriodCriticalPods": (
        "shutdown_grace_critical_seconds",
        "shutdown-grace-period-critical-pods",
        _seconds,
    ),
    "shutdownGracePeriodByPodPriority": ("shutdown_by_priority", "", _same),
    "cpuManagerPolicy": ("cpu_manager_policy", "cpu-manager-policy", _same),
    "cpuManagerPolicyOptions": ("cpu_manager_policy_options", "cpu-manager-policy-options", _same),
    "memoryManagerPolicy": ("memory_manager_policy", "memory-manager-policy", _same),
    "reservedMemory": ("reserved_memory", "reserved-memory", _same),
    "topologyManagerPolicy": ("topology_manager_policy", "topology-manager-policy", _same),
    "topologyManagerScope": ("topology_manager_scope", "topology-manager-scope", _same),
    "topologyManagerPolicyOptions": (
        "topology_manager_policy_options",
        "topology-manager-policy-options",
        _same,
    ),
    "failSwapOn": ("fail_swap_on", "fail-swap-on", _same),
    "memorySwap.swapBehavior": ("swap_behavior", "swap-behavior", _same),
    "userNamespaces.idsPerPod": ("user_ids_per_pod", "", _same),
    "imageMaximumGCAge": ("image_maximum_age_seconds", "", _seconds),
    "nodeStatusMaxImages": ("node_status_images_max", "node-status-max-images", _same),
    "podsPerCore": ("pods_per_core", "pods-per-core", _same),
    "enforceNodeAllocatable": ("enforce_allocatable", "enforce-node-allocatable", _same),
    "mergeDefaultEvictionSettings": ("merge_eviction_defaults", "", _same),
    "containerLogMonitorInterval": ("log_monitor_seconds", "", _seconds),
    "enableDebuggingHandlers": ("debugging_handlers", "enable-debugging-handlers", _same),
    "enableSystemLogHandler": ("system_logs", "", _same),
    "enableSystemLogQuery": ("system_log_queries", "", _same),
    "reservedSystemCPUs": ("reserved_cpus", "reserved-cpus", _same),
    "containerRuntimeEndpoint": ("runtime_endpoint", "container-runtime-endpoint", _same),
    "authentication.anonymous.enabled": ("anonymous_auth", "anonymous-auth", _same),
    "authentication.webhook.enabled": ("authentication_token_webhook", "", _same),
    "authentication.x509.clientCAFile": ("client_ca_file", "client-ca-file", _same),
    "authorization.mode": ("authorization_mode", "authorization-mode", _same),
    "crashLoopBackOff.maxContainerRestartPeriod": ("crash_backoff_seconds_max", "", _seconds),
}
# Fields with one meaning here: a file may say it, and nothing else.
ONLY: dict[str, tuple[Any, ...]] = {
    "cgroupsPerQOS": (True,),
    "cpuCFSQuotaPeriod": ("100ms", "0s"),
    "enableControllerAttachDetach": (True,),
    "enableServer": (True,),
    "imagePullCredentialsVerificationPolicy": ("NeverVerify",),
    "kubeReservedCgroup": ("",),
    "localStorageCapacityIsolation": (True,),
    "protectKernelDefaults": (False,),
    "qosReserved": ({}, None),
    "readOnlyPort": (0,),
    "runOnce": (False,),
    "staticPodURL": ("",),
    "systemReservedCgroup": ("",),
}
# Fields that tune upstream's own machinery, or say what Peavine does anyway.
IGNORED = frozenset(
    (
        "configMapAndSecretChangeDetectionStrategy",
        "containerLogMaxWorkers",
        "contentType",
        "enableContentionProfiling",
        "enableDebugFlagsHandler",
        "enableProfilingHandler",
        "eventBurst",
        "eventRecordQPS",
        "hairpinMode",
        "imageServiceEndpoint",
        "iptablesDropBit",
        "iptablesMasqueradeBit",
        "kernelMemcgNotification",
        "kubeAPIBurst",
        "kubeAPIQPS",
        "kubeletCgroups",
        "makeIPTablesUtilChains",
        "maxOpenFiles",
        "memoryThrottlingFactor",
        "oomScoreAdj",
        "registryBurst",
        "registryPullQPS",
        "showHiddenMetricsForVersion",
        "singleProcessOOMKill",
        "staticPodURLHeader",
        "systemCgroups",
        "tracing",
        "volumePluginDir",
        "apiVersion",
        "kind",
        "cgroupDriver",
        "logging",
        "healthzBindAddress",
        "healthzPort",
        "streamingConnectionIdleTimeout",
        "runtimeRequestTimeout",
        "fileCheckFrequency",
        "httpCheckFrequency",
        "volumeStatsAggPeriod",
        "cpuManagerReconcilePeriod",
        "featureGates",
        "authentication.webhook.cacheTTL",
        "authorization.webhook.cacheAuthorizedTTL",
        "authorization.webhook.cacheUnauthorizedTTL",
    )
)
_NESTED = (
    "authentication",
    "authorization",
    "crashLoopBackOff",
    "anonymous",
    "webhook",
    "x509",
    "memorySwap",
    "userNamespaces",
)


def _flat(doc: Object, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in doc.items():
        if key in _NESTED and isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def _read(path: Path) -> Object:
    import yaml

    try:
        doc = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if not isinstance(doc, dict) or doc.get("kind") != KIND or doc.get("apiVersion") != API_VERSION:
        raise ConfigurationError(f"{path}: not a {KIND} of {API_VERSION}")
    return doc


def load(options: Options, path: str, directory: str, argv: list[str]) -> None:
    """Put the file's fields, then those of the drop-ins (`*.conf`, in order of name), into the options.

    Raises ConfigurationError, OSError.
    """
    given = {word.lstrip("-").partition("=")[0] for word in argv if word.startswith("--")}
    defaults = dict(options.eviction_hard)
    files = [Path(path)] if path else []
    if directory:
        files += sorted(Path(directory).glob("*.conf"))
    for file in files:
        for field, value in _flat(_read(file)).items():
            if field in IGNORED:
                continue
            if field in ONLY:
                if value not in ONLY[field]:
                    raise ConfigurationError(f"{file}: {field}: only {ONLY[field][0]!r} is supported, not {value!r}")
                continue
            if field not in FIELDS:
                raise ConfigurationError(f'{file}: strict decoding error: unknown field "{field}"')
            option, flag, convert = FIELDS[field]
            if flag in given:
                continue
            try:
                setattr(options, option, convert(value))
            except (ValueError, TypeError, AttributeError) as error:
                raise ConfigurationError(f"{file}: {field}: {error}") from error
    if options.merge_eviction_defaults:
        # Else, as upstream, who names one hard threshold has named them all.
        options.eviction_hard = defaults | options.eviction_hard


def describe(options: Options) -> Object:
    """The configuration in force, as `/configz` shows it."""
    found: Object = {"kind": KIND, "apiVersion": API_VERSION}
    for field, (option, _, convert) in FIELDS.items():
        value = getattr(options, option)
        if convert is _seconds:
            value = format_duration(value)
        elif convert is _each_seconds:
            value = {key: format_duration(seconds) for key, seconds in value.items()}
        elif isinstance(value, Path):
            value = str(value)
        at = found
        *parents, leaf = field.split(".")
        for parent in parents:
            at = at.setdefault(parent, {})
        at[leaf] = value
    return found
