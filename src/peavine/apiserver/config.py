"""What one API server is told: files, addresses, ranges, switches. `cmd/apiserver.py` makes it from flags."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Config:
    """Paths are "" where the thing is not configured."""

    store: str = "memory://"
    store_options: dict[str, str] = field(default_factory=dict)
    bind_address: str = "127.0.0.1"
    secure_port: int = 6443
    advertise_address: str = "127.0.0.1"
    # TLS and identities.
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    client_ca_file: str = ""
    requestheader_client_ca_file: str = ""
    requestheader_allowed_names: tuple[str, ...] = ()
    proxy_client_cert_file: str = ""
    proxy_client_key_file: str = ""
    kubelet_client_certificate: str = ""
    kubelet_client_key: str = ""
    kubelet_certificate_authority: str = ""
    kubelet_preferred_address_types: tuple[str, ...] = (
        "Hostname",
        "InternalDNS",
        "InternalIP",
        "ExternalDNS",
        "ExternalIP",
    )
    service_account_key_files: tuple[str, ...] = ()
    service_account_signing_key_file: str = ""
    service_account_issuer: str = "https://kubernetes.default.svc.cluster.local"
    api_audiences: tuple[str, ...] = ()
    token_auth_file: str = ""
    anonymous_auth: bool = True
    authentication_config: str = ""
    authentication_token_webhook_config_file: str = ""
    oidc_issuer_url: str = ""
    oidc_client_id: str = ""
    oidc_username_claim: str = "sub"
    oidc_username_prefix: str = ""
    oidc_groups_claim: str = ""
    oidc_groups_prefix: str = ""
    oidc_required_claims: tuple[str, ...] = ()
    oidc_ca_file: str = ""
    # Authorization and admission.
    authorization_modes: tuple[str, ...] = ("Node", "RBAC")
    authorization_config: str = ""
    authorization_webhook_config_file: str = ""
    enable_admission_plugins: tuple[str, ...] = ()
    disable_admission_plugins: tuple[str, ...] = ()
    admission_config: dict[str, Any] = field(default_factory=dict)
    # Networks.
    service_cluster_ip_range: str = "192.168.0.0/16"
    service_node_port_range: str = "30000-32767"
    # Limits and times.
    event_ttl_seconds: float = 3600
    request_timeout_seconds: float = 60.0
    min_request_timeout_seconds: int = 1800
    max_requests_inflight: int = 400
    max_mutating_requests_inflight: int = 200
    compaction_interval_seconds: float = 300.0
    shutdown_delay_seconds: float = 0.0  # of further serving, no longer ready, before the stop begins
    shutdown_grace_seconds: float = 10.0
    enable_priority_and_fairness: bool = True
    audit_log_path: str = ""
    audit_log_maxsize: int = 100  # MiB
    audit_log_maxbackup: int = 10
    audit_log_maxage: int = 30  # days
    audit_policy_file: str = ""
    audit_webhook_config_file: str = ""
    encryption_provider_config: str = ""
    enable_aggregation: bool = True
    kubernetes_version: str = "1.37"
    feature_gates: dict[str, bool] = field(default_factory=dict)


def seconds_of(text: str) -> float:
    """Seconds of a Go duration such as 1h30m, 10s or 250ms. Raises ValueError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"invalid duration {text!r}")
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(number) * units[unit] for number, unit in parts)
