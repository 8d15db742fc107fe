"""Node agent: runs the pods of one node on containerd, or of many nodes simulated."""

from __future__ import annotations

import argparse
import hashlib
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peavine.base.clock import REAL, Clock
from peavine.cmd.cluster import default_data_dir
from peavine.kubelet.options import Options

if TYPE_CHECKING:
    from peavine.kubelet.kubelet import Kubelet


def _pairs(text: str) -> dict[str, str]:
    """`a=b,c=d`"""
    return {part.partition("=")[0]: part.partition("=")[2] for part in text.split(",") if part}


def _thresholds(text: str) -> dict[str, str]:
    """`memory.available<100Mi,nodefs.available<10%`"""
    return {part.partition("<")[0]: part.partition("<")[2] for part in text.split(",") if "<" in part}


def _taints(text: str) -> list[dict[str, str]]:
    """`key=value:Effect,key:Effect`"""
    found = []
    for part in text.split(","):
        if part:
            left, _, effect = part.rpartition(":")
            key, _, value = left.partition("=")
            found.append({"key": key, "effect": effect, **({"value": value} if value else {})})
    return found


def _reserved_memory(text: str) -> list[dict[str, Any]]:
    """`0:memory=1Gi,hugepages-2Mi=64Mi;1:memory=1Gi`"""
    return [
        {"numaNode": int(node), "limits": _pairs(limits)}
        for node, _, limits in (part.partition(":") for part in text.split(";") if part)
    ]


def _list(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _truth(text: str) -> bool:
    return text.lower() in ("", "1", "t", "true", "yes")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="peavine kubelet", description=__doc__)
    add = top.add_argument
    add("--kubeconfig", required=True, help="how to reach the API server, and as whom")
    add(
        "--bootstrap-kubeconfig",
        default="",
        help="with a bootstrap token, to ask for a certificate where --kubeconfig is missing or has ended",
    )
    add(
        "--rotate-certificates",
        type=_truth,
        nargs="?",
        const=True,
        default=False,
        help="ask for a new client certificate before the present one ends",
    )
    add(
        "--rotate-server-certificates",
        type=_truth,
        nargs="?",
        const=True,
        default=False,
        help="ask the cluster for the serving certificate, and for new ones before it ends",
    )
    add("--config", default="", help="KubeletConfiguration file (kubelet.config.k8s.io/v1beta1); flags override it")
    add("--config-dir", default="", help="directory of drop-ins (*.conf) that override --config in order of name")
    add("--hostname-override", default=platform.node().lower(), help="name of the node")
    add("--node-ip", type=_list, default=[], help="address of the node; two, separated by a comma, for dual stack")
    add("--data-dir", default=default_data_dir(), help="data directory; root, containerd and CNI live below it")
    add("--root-dir", default="", help="the kubelet's own files (default DATA-DIR/kubelet)")
    add("--pod-logs-dir", default="", help="container logs (default ROOT-DIR/pods-logs)")
    add("--runtime", choices=("containerd", "simulated"), default="containerd", help="real containers, or none")
    add("--simulated-nodes", type=int, default=1, metavar="N", help="with --runtime simulated: nodes in this process")
    add("--simulated-stages", default="", metavar="FILE", help="what simulated pods do, where no annotation says it")
    add("--container-runtime-endpoint", default="", help="CRI socket (default: the data directory's containerd)")
    add("--cluster-dns", type=_list, default=[], help="addresses of the cluster's DNS")
    add("--cluster-domain", default="cluster.local", help="domain of the cluster")
    add("--resolv-conf", default="/etc/resolv.conf", help="resolver configuration that pods build upon")
    add("--pod-cidr", default="", help="pods of this node, where no controller assigns it")
    add("--node-labels", type=_pairs, default={}, help="labels to register with: a=b,c=d")
    add("--register-with-taints", type=_taints, default=[], help="taints to register with: key=value:Effect,...")
    add("--register-node", type=_truth, nargs="?", const=True, default=True, help="create the Node object")
    add("--provider-id", default="", help="identity of the machine at its cloud")
    add("--address", default="0.0.0.0", help="where the server listens")
    add("--port", type=int, default=10250, help="port of the server; 0 takes a free one")
    add("--tls-cert-file", default="", help="certificate of the server (default: a self-signed one)")
    add("--tls-private-key-file", default="", help="its key")
    add("--client-ca-file", default="", help="authority of clients' certificates")
    add("--cert-dir", default="", help="where a self-signed certificate is kept (default ROOT-DIR/pki)")
    add("--anonymous-auth", type=_truth, nargs="?", const=True, default=False, help="let requests in without identity")
    add("--authorization-mode", choices=("AlwaysAllow", "Webhook"), default="Webhook", help="who may use the server")
    add("--max-pods", type=int, default=110, help="pods that this node takes")
    add("--pod-max-pids", type=int, default=4096, help="processes that a pod may have; -1: no limit")
    add("--pod-manifest-path", default="", help="directory (or file) of static pods")
    add("--sync-frequency", type=float, default=60.0, metavar="SECONDS", help="how often content that ages is renewed")
    add("--serialize-image-pulls", type=_truth, nargs="?", const=True, default=False, help="one pull at a time")
    add("--max-parallel-image-pulls", type=int, default=5, help="pulls at once")
    add(
        "--seccomp-default",
        type=_truth,
        nargs="?",
        const=True,
        default=True,
        help="RuntimeDefault where none is named",
    )
    add("--allowed-unsafe-sysctls", type=_list, default=[], help="beyond the safe ones; may end in *")
    add("--cgroup-root", default="", help="control group above the pods' (default: one of this data directory)")
    add("--cpu-cfs-quota", type=_truth, nargs="?", const=True, default=True, help="enforce CPU limits")
    add("--container-log-max-size", default="10Mi", help="rotate a log beyond this size")
    add("--container-log-max-files", type=int, default=5, help="parts of a log that are kept")
    add(
        "--node-status-update-frequency",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how often status is looked at",
    )
    add(
        "--node-status-report-frequency",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="reported at least this often",
    )
    add(
        "--housekeeping-interval",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how often logs, limits and thresholds are looked at",
    )
    add("--node-lease-duration-seconds", type=int, default=40, help="life of the node's lease")
    add("--system-reserved", type=_pairs, default={}, help="kept from pods for the system: cpu=100m,memory=1Gi")
    add("--kube-reserved", type=_pairs, default={}, help="kept from pods for Peavine")
    add("--eviction-hard", type=_thresholds, default=None, help="memory.available<100Mi,nodefs.available<10%%,...")
    add("--eviction-soft", type=_thresholds, default={}, help="thresholds with a grace period")
    add("--eviction-soft-grace-period", type=_pairs, default={}, help="memory.available=90s,...")
    add("--eviction-minimum-reclaim", type=_pairs, default={}, help="free at least so much more: nodefs.available=1Gi")
    add("--eviction-max-pod-grace-period", type=int, default=0, help="seconds that a soft eviction gives a pod")
    add(
        "--eviction-pressure-transition-period",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="a condition lasts this long",
    )
    add("--image-gc-high-threshold", type=int, default=85, help="percent of disk beyond which images are removed")
    add("--image-gc-low-threshold", type=int, default=80, help="percent of disk down to which images are removed")
    add(
        "--shutdown-grace-period",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="time for pods when the node shuts down",
    )
    add(
        "--shutdown-grace-period-critical-pods",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="the critical pods' part of it",
    )
    add("--image-credential-provider-config", default="", help="CredentialProviderConfig file")
    add("--image-credential-provider-bin-dir", default="", help="where its programs are")
    add(
        "--cpu-manager-policy",
        choices=("none", "static"),
        default="none",
        help="static: whole CPUs for guaranteed containers",
    )
    add("--cpu-manager-policy-options", type=_pairs, default={}, help="full-pcpus-only=true,...")
    add(
        "--memory-manager-policy",
        choices=("None", "Static"),
        default="None",
        help="Static: guaranteed pods get memory of chosen NUMA nodes",
    )
    add("--reserved-memory", type=_reserved_memory, default=[], help="0:memory=1Gi,hugepages-2Mi=64Mi;1:memory=1Gi")
    add(
        "--topology-manager-policy",
        choices=("none", "best-effort", "restricted", "single-numa-node"),
        default="none",
        help="how near to one another CPUs, memory and devices must be",
    )
    add("--topology-manager-scope", choices=("container", "pod"), default="container", help="what is held together")
    add("--topology-manager-policy-options", type=_pairs, default={}, help="prefer-closest-numa-nodes=true,...")
    add("--reserved-cpus", default="", help="CPUs that no pod gets alone: 0-1,3")
    add("--fail-swap-on", type=_truth, nargs="?", const=True, default=False, help="do not start with swap switched on")
    add(
        "--swap-behavior",
        choices=("", "NoSwap", "LimitedSwap"),
        default="",
        help="LimitedSwap: burstable pods may swap in proportion to their memory (cgroup v2)",
    )
    add("--node-status-max-images", type=int, default=50, help="images that the Node shows; -1: all")
    add("--pods-per-core", type=int, default=0, help="pods for each CPU, at most --max-pods; 0: no such limit")
    add("--enforce-node-allocatable", type=_list, default=["pods"], help="pods: together they get what is allocatable")
    add("--enable-debugging-handlers", type=_truth, nargs="?", const=True, default=True, help="exec, logs and the like")
    add("-v", type=int, default=2, metavar="LEVEL", help="verbosity of the log")
    return top


def cgroup_root(data_dir: str) -> str:
    """The control group of one data directory's pods: other kubelets of the machine are not disturbed."""
    return "/peavine/" + hashlib.sha256(str(Path(data_dir).resolve()).encode()).hexdigest()[:8]


def _seconds(text: str) -> float:
    """`90s`, `1m30s`, or plain seconds."""
    from peavine.machinery.duration import parse_duration

    return float(text) if text.replace(".", "").isdigit() else parse_duration(text)


def options_of(args: argparse.Namespace) -> Options:
    from peavine.machinery.quantity import parse_quantity

    root = Path(args.root_dir or Path(args.data_dir) / "kubelet")
    simulated = args.runtime == "simulated"
    options = Options(
        node_name=args.hostname_override,
        root_dir=root,
        simulated_stages=args.simulated_stages,
        pod_logs_dir=Path(args.pod_logs_dir or root / "pods-logs"),
        runtime_endpoint=args.container_runtime_endpoint or f"{args.data_dir}/containerd/containerd.sock",
        node_ips=args.node_ip,
        cluster_dns=args.cluster_dns,
        cluster_domain=args.cluster_domain,
        resolv_conf=args.resolv_conf,
        pod_cidr=args.pod_cidr,
        node_labels=args.node_labels,
        register_taints=args.register_with_taints,
        register_node=args.register_node,
        provider_id=args.provider_id,
        address=args.address,
        port=args.port,
        tls_cert_file=args.tls_cert_file,
        tls_private_key_file=args.tls_private_key_file,
        client_ca_file=args.client_ca_file,
        cert_dir=args.cert_dir or str(root / "pki"),
        rotate_certificates=args.rotate_certificates,
        server_tls_bootstrap=args.rotate_server_certificates,
        anonymous_auth=args.anonymous_auth,
        authorization_mode=args.authorization_mode,
        max_pods=args.max_pods,
        pod_pids_limit=args.pod_max_pids,
        static_pod_path=args.pod_manifest_path,
        sync_frequency_seconds=args.sync_frequency,
        serialize_image_pulls=args.serialize_image_pulls,
        max_parallel_image_pulls=args.max_parallel_image_pulls,
        seccomp_default=args.seccomp_default,
        allowed_unsafe_sysctls=args.allowed_unsafe_sysctls,
        cgroups=not simulated,
        cgroup_root=args.cgroup_root or cgroup_root(args.data_dir),
        cpu_cfs_quota=args.cpu_cfs_quota,
        container_log_max_bytes=parse_quantity(args.container_log_max_size).value(),
        container_log_max_files=args.container_log_max_files,
        node_status_update_seconds=args.node_status_update_frequency,
        node_status_report_seconds=args.node_status_report_frequency,
        housekeeping_seconds=args.housekeeping_interval,
        lease_duration_seconds=args.node_lease_duration_seconds,
        system_reserved=args.system_reserved,
        kube_reserved=args.kube_reserved,
        eviction_soft=args.eviction_soft,
        eviction_soft_grace_seconds={k: _seconds(v) for k, v in args.eviction_soft_grace_period.items()},
        eviction_minimum_reclaim=args.eviction_minimum_reclaim,
        eviction_max_pod_grace_seconds=args.eviction_max_pod_grace_period,
        eviction_pressure_transition_seconds=args.eviction_pressure_transition_period,
        image_gc_high_percent=args.image_gc_high_threshold,
        image_gc_low_percent=args.image_gc_low_threshold,
        image_fs_dir=f"{args.data_dir}/containerd/root",
        shutdown_grace_seconds=args.shutdown_grace_period,
        shutdown_grace_critical_seconds=args.shutdown_grace_period_critical_pods,
        image_credential_provider_config=args.image_credential_provider_config,
        image_credential_provider_bin_dir=args.image_credential_provider_bin_dir,
        cpu_manager_policy=args.cpu_manager_policy,
        cpu_manager_policy_options=args.cpu_manager_policy_options,
        memory_manager_policy=args.memory_manager_policy,
        reserved_memory=args.reserved_memory,
        topology_manager_policy=args.topology_manager_policy,
        topology_manager_scope=args.topology_manager_scope,
        topology_manager_policy_options=args.topology_manager_policy_options,
        reserved_cpus=args.reserved_cpus,
        fail_swap_on=args.fail_swap_on,
        swap_behavior=args.swap_behavior,
        node_status_images_max=args.node_status_max_images,
        pods_per_core=args.pods_per_core,
        enforce_allocatable=[] if args.enforce_node_allocatable == ["none"] else args.enforce_node_allocatable,
        debugging_handlers=args.enable_debugging_handlers,
    )
    if args.eviction_hard is not None:
        options.eviction_hard = args.eviction_hard
    return options


def _stages(path: str) -> list[dict[str, Any]]:
    if not path:
        return []
    import yaml

    stages = yaml.safe_load(Path(path).read_text())
    if not isinstance(stages, list):
        raise SystemExit(f"peavine kubelet: {path}: a list of stages is wanted")
    return stages


def build(options: Options, client: Any, *, simulated_nodes: int = 0, clock: Clock = REAL) -> Kubelet:
    """The kubelet with its runtime: containerd, or with `simulated_nodes` the simulated one."""
    from peavine.kubelet.kubelet import Kubelet
    from peavine.kubelet.node.node import real_node

    if not simulated_nodes:
        from peavine.kubelet.cri.client import CriClient

        return Kubelet(options, client, CriClient(options.runtime_endpoint), [real_node(options)])
    from peavine.kubelet.cri.simulated import SimulatedRuntime
    from peavine.kubelet.node.simulated import simulated_nodes as make_nodes

    stages = _stages(options.simulated_stages)
    runtime = SimulatedRuntime(pod_of=lambda uid: kubelet.pod_of(uid), stages=stages, clock=clock)
    nodes = make_nodes(options, simulated_nodes)
    kubelet = Kubelet(options, client, runtime, nodes, clock=clock, runtime_name="simulated")
    return kubelet


def simulated_options(data_dir: str, node_name: str = "node", *, address: str = "127.0.0.1", port: int = 0) -> Options:
    """Options of a kubelet without containers, for tests and for simulated clusters in one process."""
    args = [f"--data-dir={data_dir}", f"--hostname-override={node_name}", "--kubeconfig=", "--runtime=simulated"]
    return options_of(parser().parse_args([*args, f"--address={address}", f"--port={port}", f"--node-ip={address}"]))


async def run(options: Options, kubeconfig: str, *, bootstrap_kubeconfig: str = "", simulated_nodes: int = 0) -> None:
    """Run until cancelled."""
    from peavine.client.rest import Client, wait_ready

    if bootstrap_kubeconfig:
        from peavine.kubelet.certificates import bootstrap

        await bootstrap(kubeconfig, bootstrap_kubeconfig, options.node_name, Path(options.cert_dir))
    client = Client.from_kubeconfig(kubeconfig, user_agent="kubelet/v1.37.0 (linux/amd64) peavine")
    await wait_ready(client, seconds=3600)
    await run_with(options, client, simulated_nodes=simulated_nodes)


async def run_with(options: Options, client: Any, *, simulated_nodes: int = 0, clock: Clock = REAL) -> None:
    """Run in the present loop until cancelled; the port of the server is in the Node objects."""
    from peavine.base.lifetimes import scope
    from peavine.kubelet.server.server import KubeletServer

    kubelet = build(options, client, simulated_nodes=simulated_nodes, clock=clock)
    async with scope() as tasks:
        server = KubeletServer(kubelet)
        if options.rotate_certificates or options.server_tls_bootstrap:
            from peavine.kubelet.certificates import rotations

            for rotation in rotations(kubelet, server.take_certificate):
                tasks.start(rotation.run(), name=rotation.file.name)
        await server.listen()
        tasks.start(server.run(), name="server")
        await kubelet.run()


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    from peavine.base import lifetimes, logs

    logs.setup(args.v)
    options = options_of(args)
    if args.config or args.config_dir:
        from peavine.kubelet.configuration import ConfigurationError, load

        try:
            load(options, args.config, args.config_dir, argv)
        except (ConfigurationError, OSError) as error:
            print(f"peavine kubelet: {error}", file=sys.stderr)
            return 1
    if args.runtime != "simulated":
        from peavine.kubelet.allocation.managers import OptionsError, check_options

        try:
            check_options(options)
        except OptionsError as error:
            print(f"peavine kubelet: {error}", file=sys.stderr)
            return 1
    nodes = max(1, args.simulated_nodes) if args.runtime == "simulated" else 0
    return lifetimes.run(
        run(options, args.kubeconfig, bootstrap_kubeconfig=args.bootstrap_kubeconfig, simulated_nodes=nodes)
    )
