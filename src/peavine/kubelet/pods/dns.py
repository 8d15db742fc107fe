"""A pod's resolv.conf, and its /etc/hosts: from dnsPolicy, dnsConfig, host aliases and the node's own files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Object = dict[str, Any]

NAMESERVERS_MAX, SEARCHES_MAX, SEARCH_CHARS_MAX = 3, 32, 2048
HOSTS_HEADER = "# Kubernetes-managed hosts file.\n"
HOSTS_HEADER_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"


@dataclass
class Resolver:
    """The parts of a resolv.conf."""

    servers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)


def parse_resolv_conf(text: str) -> Resolver:
    found = Resolver()
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if not words:
            continue
        if words[0] == "nameserver" and len(words) > 1:
            found.servers.append(words[1])
        elif words[0] in ("search", "domain"):
            found.searches = [w.rstrip(".") or "." for w in words[1:]]
        elif words[0] == "options":
            found.options = words[1:]
    return found


def host_resolver(path: str = "/etc/resolv.conf") -> Resolver:
    """The node's own; empty if it has none. systemd-resolved's stub is of no use in a pod, its upstream file is."""
    try:
        found = parse_resolv_conf(Path(path).read_text())
        if found.servers == ["127.0.0.53"]:
            found = parse_resolv_conf(Path("/run/systemd/resolve/resolv.conf").read_text())
    except OSError:
        return Resolver()
    return found


def pod_resolver(
    pod: Object,
    *,
    cluster_dns: list[str],
    cluster_domain: str,
    host: Callable[[], Resolver],
    warn: Callable[[str, str], None] = lambda reason, message: None,
) -> Resolver:
    """What the pod's resolv.conf says. `warn(reason, message)` gets what upstream records as events."""
    spec = pod.get("spec") or {}
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "ClusterFirstWithHostNet":
        policy = "ClusterFirst"
    if policy == "ClusterFirst" and not cluster_dns:
        warn(
            "MissingClusterDNS",
            "kubelet does not have ClusterDNS IP configured and cannot create Pod using"
            ' "ClusterFirst" policy. Falling back to "Default" policy.',
        )
        policy = "Default"
    if policy == "None":
        resolver = Resolver()
    elif policy == "ClusterFirst":
        base = host()
        searches = list(base.searches)
        if cluster_domain:
            namespace = pod["metadata"].get("namespace", "default")
            searches = [f"{namespace}.svc.{cluster_domain}", f"svc.{cluster_domain}", cluster_domain, *searches]
        resolver = Resolver(list(cluster_dns), searches, ["ndots:5"])
    else:
        base = host()
        resolver = Resolver(list(base.servers), list(base.searches), list(base.options))
    config = spec.get("dnsConfig") or {}
    resolver.servers = _unique([*resolver.servers, *(config.get("nameservers") or [])])
    resolver.searches = _unique([*resolver.searches, *(config.get("searches") or [])])
    resolver.options = _merged_options(resolver.options, config.get("options") or [])
    return _bounded(resolver, warn)


def _unique(items: list[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _merged_options(options: list[str], more: list[Object]) -> list[str]:
    merged = {}
    for option in options:
        name, _, value = option.partition(":")
        merged[name] = value
    for entry in more:
        merged[entry["name"]] = entry.get("value") or ""
    return [f"{name}:{value}" if value else name for name, value in merged.items()]


def _bounded(resolver: Resolver, warn: Callable[[str, str], None]) -> Resolver:
    if len(resolver.servers) > NAMESERVERS_MAX:
        resolver.servers = resolver.servers[:NAMESERVERS_MAX]
        line = " ".join(resolver.servers)
        warn(
            "DNSConfigForming",
            f"Nameserver limits were exceeded, some nameservers have been omitted,"
            f" the applied nameserver line is: {line}",
        )
    searches: list[str] = []
    for search in resolver.searches[:SEARCHES_MAX]:
        if len(" ".join([*searches, search])) > SEARCH_CHARS_MAX:
            break
        searches.append(search)
    if len(searches) < len(resolver.searches):
        warn(
            "DNSConfigForming",
            "Search Line limits were exceeded, some search paths have been omitted,"
            f" the applied search line is: {' '.join(searches)}",
        )
    resolver.searches = searches
    return resolver


def hostnames(pod: Object, cluster_domain: str, node_name: str) -> tuple[str, str]:
    """(host name, domain) of the pod: spec.hostname or its name, at most 63 characters; the domain if it has one."""
    spec, meta = pod.get("spec") or {}, pod["metadata"]
    if override := spec.get("hostnameOverride"):
        return override, ""
    if spec.get("hostNetwork"):
        return node_name, ""
    name = (spec.get("hostname") or meta["name"])[:63].rstrip("-.")
    domain = ""
    if spec.get("subdomain"):
        domain = f"{spec['subdomain']}.{meta.get('namespace', 'default')}.svc.{cluster_domain}"
    return name, domain


def sandbox_hostname(pod: Object, cluster_domain: str, node_name: str) -> str:
    """What `hostname` prints in the pod. Raises ValueError if setHostnameAsFQDN asks for more than 64 characters."""
    name, domain = hostnames(pod, cluster_domain, node_name)
    if (pod.get("spec") or {}).get("setHostnameAsFQDN") and domain:
        whole = f"{name}.{domain}"
        if len(whole) > 64:
            raise ValueError(
                f"failed to construct FQDN from pod hostname and cluster domain, FQDN {whole} is too long"
                " (64 characters is the max, "
                f"{len(whole)} characters requested)"
            )
        return whole
    return name


def hosts_file(pod: Object, ips: list[str], cluster_domain: str, node_name: str) -> str:
    """The text of the pod's /etc/hosts."""
    spec = pod.get("spec") or {}
    if spec.get("hostNetwork"):
        try:
            text = HOSTS_HEADER_HOST_NETWORK + Path("/etc/hosts").read_text()
        except OSError:
            text = HOSTS_HEADER_HOST_NETWORK
    else:
        text = (
            HOSTS_HEADER + "127.0.0.1\tlocalhost\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
        )
        name, domain = hostnames(pod, cluster_domain, node_name)
        for ip in ips:
            text += f"{ip}\t{name}.{domain}\t{name}\n" if domain else f"{ip}\t{name}\n"
    aliases = spec.get("hostAliases") or []
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            text += "\t".join([alias["ip"], *(alias.get("hostnames") or [])]) + "\n"
    return text
