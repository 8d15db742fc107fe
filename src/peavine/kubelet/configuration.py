"""KubeletConfiguration (kubelet.config.k8s.io/v1beta1): the file, its drop-ins, and what is in force."""

from __future__ import annotations

from typing import Any

from peavine.kubelet.options import Options


class ConfigurationError(ValueError):
    """The file cannot be used; the message names the field."""


def load(options: Options, path: str, directory: str, argv: list[str]) -> None:
    raise ConfigurationError("--config is not implemented yet")


def describe(options: Options) -> dict[str, Any]:
    return {"clusterDomain": options.cluster_domain, "clusterDNS": options.cluster_dns, "maxPods": options.max_pods}
