"""The processes that follow from what `up` decided: the control plane's, and those of every node."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peavine.cmd.cluster import CLUSTER_DOMAIN, DNS_PORT, METRICS_PORT, Cluster, Host

# Of a machine that is joining: a bootstrap token, until the kubelet has its own certificate.
BOOTSTRAP_KUBECONFIG = "bootstrap-kubelet.kubeconfig"


@dataclass(frozen=True)
class Process:
    """One supervised process."""

    name: str
    command: list[str]
    survives: bool = False
    """It outlives its supervisor; only `down` ends it."""


def processes(cluster: Cluster) -> list[Process]:
    """Everything that runs, in the order of starting. Each waits for what it needs, so they start at once."""
    if cluster.joined:
        return _joined(cluster)
    wanted = _control_plane(cluster)
    if cluster.api_only:
        return wanted
    if cluster.runtime == "simulated":
        return [*wanted, _simulated(cluster)]
    for host in cluster.hosts:
        wanted += node_processes(cluster, host)
    if cluster.node_range:
        wanted += _way_to_pods(cluster)
    if cluster.ingress:
        wanted.append(_configured(cluster, "ingress", *_ingress(cluster)))
    return wanted


def node_processes(cluster: Cluster, host: Host, kubelet_identity: Sequence[str] | None = None) -> list[Process]:
    """What runs on one node. `kubelet_identity`: flags that replace the certificates which `up` made for it."""
    from peavine.kubelet.containerd import containerd_command

    d, pki = host.directory, cluster.directory / "pki"
    if kubelet_identity is None:
        kubelet_identity = _kubelet_identity(cluster, host.node)
    resolvers = [f"--resolv-conf={cluster.directory / 'hosts' / 'resolv.conf'}"] if host.namespace else []
    listed = [
        Process("containerd", containerd_command(d), survives=True),
        *([] if cluster.cni else [_network(cluster, host)]),
        _component(
            cluster,
            "kubelet",
            *kubelet_identity,
            *_kubelet(cluster, host.node, ",".join(filter(None, (host.address, host.address6))), d),
            f"--client-ca-file={pki / 'ca.crt'}",
            f"--container-runtime-endpoint={d / 'containerd/containerd.sock'}",
            *resolvers,
        ),
        _configured(
            cluster,
            "proxy",
            f"--hostname-override={host.node}",
            f"--cluster-cidr={cluster.pod_range}",
            f"--proxy-mode={cluster.proxy_mode}",
            "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249",
        ),
        _configured(
            cluster,
            "dns",
            f"--hostname-override={host.node}",
            f"--listen={host.address}",
            f"--port={DNS_PORT}",
            f"--cluster-domain={CLUSTER_DOMAIN}",
            f"--service-ip={cluster.dns_service_ip}",
            "--healthz-bind-address=127.0.0.1:10254",
            *resolvers,
        ),
    ]
    return [_in_namespace(process, host) for process in listed] if host.namespace else listed


def _network(cluster: Cluster, host: Host) -> Process:
    return _configured(
        cluster,
        "network",
        f"--hostname-override={host.node}",
        f"--cluster-cidr={cluster.pod_range}",
        f"--node-ip={host.address}",
        f"--cni-conf-dir={host.directory / 'cni/net.d'}",
        f"--state-dir={host.directory / 'cni/state'}",
        f"--backend={cluster.backend}",
        *(["--announce-load-balancers=true"] if cluster.load_balancer_pool else []),
    )


def _joined(cluster: Cluster) -> list[Process]:
    """A node of a cluster that runs elsewhere: its kubelet asks that one for its certificates."""
    configs = cluster.directory / "kubeconfigs"
    identity = [
        f"--kubeconfig={configs / f'kubelet-{cluster.node_name}.kubeconfig'}",
        f"--bootstrap-kubeconfig={configs / BOOTSTRAP_KUBECONFIG}",
        "--rotate-certificates",
        "--rotate-server-certificates",
    ]
    if cluster.runtime == "simulated":
        return [_simulated(cluster, identity)]
    return node_processes(cluster, cluster.hosts[0], identity)


def _in_namespace(process: Process, host: Host) -> Process:
    """The same on a host that is a network namespace. A host that is lost has none, and nothing starts there."""
    enter = ["nsenter", f"--net=/run/netns/{host.namespace}", "--"]
    return Process(f"{process.name}-{host.node}", [*enter, *process.command], process.survives)


def _component(cluster: Cluster, name: str, *flags: str) -> Process:
    return Process(name, [sys.executable, "-m", "peavine.cmd.main", name, *flags, *cluster.extra.get(name, ())])


def _configured(cluster: Cluster, name: str, *flags: str) -> Process:
    kubeconfig = cluster.directory / "kubeconfigs" / f"{name}.kubeconfig"
    return _component(cluster, name, "--kubeconfig", str(kubeconfig), *flags)


def _control_plane(cluster: Cluster) -> list[Process]:
    d = cluster.directory
    pki = d / "pki"
    wanted = [
        _component(
            cluster,
            "apiserver",
            f"--data-dir={d}",
            f"--secure-port={cluster.secure_port}",
            f"--advertise-address={cluster.node_ip}",
            f"--service-cluster-ip-range={cluster.service_range}",
            *([f"--store={cluster.store}"] if cluster.store else []),
        )
    ]
    if cluster.api_only:
        return wanted
    # Simulated clusters may be many on one machine: no fixed ports but the API server's.
    quiet = ["--secure-port=0"] if cluster.runtime == "simulated" else []
    return [
        *wanted,
        _configured(
            cluster,
            "controller-manager",
            "--leader-elect=false",
            *quiet,
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
            f"--service-account-private-key-file={pki / 'sa.key'}",
            f"--cluster-cidr={cluster.pod_range}",
            f"--service-cluster-ip-range={cluster.service_range}",
            f"--local-path-root={d / 'local-path'}",
            *_metrics(cluster),
        ),
        _configured(cluster, "scheduler", "--leader-elect=false", *quiet),
    ]


def _way_to_pods(cluster: Cluster) -> list[Process]:
    """The machine is no node of its hosts' cluster, but its API server calls webhooks and proxies to pods: it gets
    routes to their subnets and the Services' rules.
    """
    found = [
        _configured(
            cluster,
            "proxy",
            f"--hostname-override={cluster.node_name}",
            f"--cluster-cidr={cluster.pod_range}",
            f"--proxy-mode={cluster.proxy_mode}",
            "--healthz-bind-address=",
            "--metrics-bind-address=",
        )
    ]
    if cluster.backend != "none" and not cluster.cni:
        found.append(
            _configured(
                cluster,
                "network",
                f"--hostname-override={cluster.node_name}",
                f"--cluster-cidr={cluster.pod_range},{cluster.node_range}",
                f"--node-ip={cluster.node_ip}",
                "--pods=false",
            )
        )
    return found


def _kubelet(cluster: Cluster, node: str, address: str, directory: Path) -> list[str]:
    return [
        f"--hostname-override={node}",
        f"--node-ip={address}",
        f"--data-dir={directory}",
        f"--cluster-dns={cluster.dns_service_ip}",
        f"--cluster-domain={CLUSTER_DOMAIN}",
    ]


def _kubelet_identity(cluster: Cluster, node: str) -> list[str]:
    d = cluster.directory
    return [
        f"--kubeconfig={d / 'kubeconfigs' / f'kubelet-{node}.kubeconfig'}",
        f"--tls-cert-file={d / 'pki' / f'kubelet-{node}.crt'}",
        f"--tls-private-key-file={d / 'pki' / f'kubelet-{node}.key'}",
    ]


def _simulated(cluster: Cluster, identity: Sequence[str] | None = None) -> Process:
    """The one kubelet that plays all nodes; it has a free port, so that several clusters run side by side."""
    node, d = cluster.node_name, cluster.directory
    flags = [
        *(_kubelet_identity(cluster, node) if identity is None else identity),
        *_kubelet(cluster, node, cluster.node_ip, d),
        f"--client-ca-file={d / 'pki' / 'ca.crt'}",
        "--runtime=simulated",
        f"--simulated-nodes={cluster.nodes}",
        "--port=0",
    ]
    if cluster.nodes > 1:
        # No single node's identity may speak for the others.
        flags.append(f"--kubeconfig={cluster.admin_kubeconfig}")
    return _component(cluster, "kubelet", *flags)


def _metrics(cluster: Cluster) -> list[str]:
    """Flags for the resource metrics API; simulated clusters do without: their pods use nothing."""
    if cluster.runtime == "simulated":
        return []
    pki = cluster.directory / "pki"
    return [
        f"--metrics-bind-address={cluster.node_ip}:{METRICS_PORT}",
        f"--metrics-tls-cert-file={pki / 'metrics-server.crt'}",
        f"--metrics-tls-private-key-file={pki / 'metrics-server.key'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
    ]


def _ingress(cluster: Cluster) -> list[str]:
    flags = [
        f"--hostname-override={cluster.node_name}",
        f"--publish-address={cluster.node_ip}",
        f"--run-dir={cluster.run_dir / 'ingress'}",
        "--healthz-bind-address=127.0.0.1:10253",
        *(["--gateway-api"] if cluster.gateway_api else []),
    ]
    if cluster.load_balancer_pool:
        return [*flags, f"--load-balancer-pool={cluster.load_balancer_pool}"]
    return [*flags, "--load-balancer-node-addresses"]
