"""What a kubelet is told when it starts. Defaults are upstream's (KubeletConfiguration v1beta1), hardened where the
CIS benchmark says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Options:
    node_name: str
    root_dir: Path
    pod_logs_dir: Path
    runtime_endpoint: str = ""
    simulated_stages: str = ""
    node_ips: list[str] = field(default_factory=list)
    hostname: str = ""
    cluster_dns: list[str] = field(default_factory=list)
    cluster_domain: str = "cluster.local"
    resolv_conf: str = "/etc/resolv.conf"
    pod_cidr: str = ""
    node_labels: dict[str, str] = field(default_factory=dict)
    register_taints: list[dict[str, str]] = field(default_factory=list)
    register_node: bool = True
    provider_id: str = ""
    # Server
    address: str = "0.0.0.0"
    port: int = 10250
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    client_ca_file: str = ""
    cert_dir: str = ""
    rotate_certificates: bool = False
    server_tls_bootstrap: bool = False
    anonymous_auth: bool = False
    authorization_mode: str = "Webhook"
    authentication_token_webhook: bool = True
    healthz_port: int = 0
    # Pods
    max_pods: int = 110
    pod_pids_limit: int = 4096
    static_pod_path: str = ""
    sync_frequency_seconds: float = 60.0
    serialize_image_pulls: bool = False
    max_parallel_image_pulls: int = 5
    seccomp_default: bool = True
    allowed_unsafe_sysctls: list[str] = field(default_factory=list)
    cgroups: bool = True
    cgroup_root: str = ""
    cpu_cfs_quota: bool = True
    container_log_max_bytes: int = 10 << 20
    container_log_max_files: int = 5
    # How often directories, logs, limits and thresholds are looked at.
    housekeeping_seconds: float = 10.0
    # Node
    node_status_update_seconds: float = 10.0
    node_status_report_seconds: float = 300.0
    lease_duration_seconds: int = 40
    system_reserved: dict[str, str] = field(default_factory=dict)
    kube_reserved: dict[str, str] = field(default_factory=dict)
    eviction_hard: dict[str, str] = field(
        default_factory=lambda: {
            "memory.available": "100Mi",
            "nodefs.available": "10%",
            "nodefs.inodesFree": "5%",
            "imagefs.available": "15%",
        }
    )
    eviction_soft: dict[str, str] = field(default_factory=dict)
    eviction_soft_grace_seconds: dict[str, float] = field(default_factory=dict)
    eviction_minimum_reclaim: dict[str, str] = field(default_factory=dict)
    eviction_max_pod_grace_seconds: int = 0
    eviction_pressure_transition_seconds: float = 300.0
    image_gc_high_percent: int = 85
    image_gc_low_percent: int = 80
    image_minimum_age_seconds: float = 120.0
    # Unused for so long, an image goes however much room there is; 0: never.
    image_maximum_age_seconds: float = 0.0
    # Where the runtime keeps its layers, for the disk's numbers.
    image_fs_dir: str = ""
    shutdown_grace_seconds: float = 0.0
    shutdown_grace_critical_seconds: float = 0.0
    # Tries to start a container that failed: first and longest wait.
    crash_backoff_seconds: float = 10.0
    crash_backoff_seconds_max: float = 300.0
    image_credential_provider_config: str = ""
    image_credential_provider_bin_dir: str = ""
    cpu_manager_policy: str = "none"
    cpu_manager_policy_options: dict[str, str] = field(default_factory=dict)
    memory_manager_policy: str = "None"
    # [{numaNode: 0, limits: {memory: 1Gi}}]
    reserved_memory: list[dict[str, Any]] = field(default_factory=list)
    topology_manager_policy: str = "none"
    topology_manager_scope: str = "container"
    topology_manager_policy_options: dict[str, str] = field(default_factory=dict)
    reserved_cpus: str = ""
    user_ids_per_pod: int = 65536
    # Swap of the machine: pods get none (NoSwap), or burstable ones a share (LimitedSwap).
    fail_swap_on: bool = False
    swap_behavior: str = ""
    # [{priority: 0, shutdownGracePeriodSeconds: 10}]: instead of the two periods above.
    shutdown_by_priority: list[dict[str, int]] = field(default_factory=list)
    node_status_images_max: int = 50
    pods_per_core: int = 0
    enforce_allocatable: list[str] = field(default_factory=lambda: ["pods"])
    merge_eviction_defaults: bool = False
    log_monitor_seconds: float = 10.0
    # exec, attach, logs and the like; without them the server only measures.
    debugging_handlers: bool = True
    # Files below /var/log under /logs/, and what services have logged.
    system_logs: bool = True
    system_log_queries: bool = False
