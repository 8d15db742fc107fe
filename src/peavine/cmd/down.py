"""Stop the cluster on this machine; with --purge remove everything that it made."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from peavine.cmd.cluster import Cluster, Host, default_data_dir
from peavine.cmd.supervise import lock

STOP_SECONDS_MAX = 60.0


def flags() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="peavine down", description=__doc__)
    options.add_argument("--data-dir", default=default_data_dir(), help="data directory (default: %(default)s)")
    options.add_argument(
        "--node", default="", metavar="NAME", help="only this one of several hosts, as by a power cut; `up` revives it"
    )
    options.add_argument("--purge", action="store_true", help="remove all state too: objects, images, volumes, keys")
    return options


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    directory = Path(args.data_dir).absolute()
    try:
        cluster = Cluster.load(directory)
    except ValueError as error:
        print(f"peavine down: {error}", file=sys.stderr)
        return 1
    if cluster is None:
        print(f"There is no cluster in {directory}.")
        return 0
    if args.node:
        return _lose(cluster, args.node)
    if not _stop_supervisor(cluster):
        print(f"peavine down: the supervisor did not end in {STOP_SECONDS_MAX:.0f} s", file=sys.stderr)
        return 1
    if cluster.runtime == "containerd" and not cluster.api_only:
        _stop_workloads(cluster, purge=args.purge)
    if args.purge:
        _unmount_below(directory)
        shutil.rmtree(directory)
        print(f"Removed everything, {directory} included.")
    else:
        print(f"Stopped. `peavine up --data-dir {directory}` finds everything again.")
    return 0


def _stop_supervisor(cluster: Cluster) -> bool:
    """End the supervisor and so its processes; True once its lock is free."""
    deadline = time.monotonic() + STOP_SECONDS_MAX
    asked = False
    while (held := lock(cluster.directory)) is None:
        if not asked:
            os.kill(int((cluster.run_dir / "supervisor.pid").read_text()), signal.SIGTERM)
            asked = True
        if time.monotonic() > deadline:
            return False
        # flock has no waiting with a time limit: a short poll.
        time.sleep(0.05)
    os.close(held)
    return True


def _unmount_below(directory: Path) -> None:
    """Nothing should be mounted there any more; what a killed process left would make the removal fail half-way."""
    if sys.platform == "linux":
        from peavine.linux import mounts

        mounts.unmount_below(directory)


def _lose(cluster: Cluster, name: str) -> int:
    from peavine.cmd import hosts

    host = next((host for host in cluster.hosts if host.node == name and host.namespace), None)
    if host is None:
        names = ", ".join(host.node for host in cluster.hosts if host.namespace) or "none"
        print(f"peavine down: {name} is not a host of this cluster ({names})", file=sys.stderr)
        return 1
    asyncio.run(hosts.lose(host))
    print(f"{name} is gone. `peavine up --data-dir {cluster.data_dir}` brings it back.")
    return 0


def _stop_workloads(cluster: Cluster, *, purge: bool) -> None:
    from peavine.cmd import hosts
    from peavine.cmd.kubelet import cgroup_root
    from peavine.linux import cgroups

    for host in cluster.hosts:
        if hosts.is_lost(host):
            # There is no network any more from which its pods could be taken properly.
            asyncio.run(hosts.lose(host))
            continue
        with hosts.inside(host):
            asyncio.run(_stop_host(host, purge=purge))
    # The parent is shared by all clusters of the machine: the last one takes it along.
    cgroups.remove_if_empty(cgroup_root(cluster.data_dir).rpartition("/")[0])
    if cluster.node_range:
        hosts.remove(cluster)
    cni = [f"--cni-conf-dir={cluster.directory / 'cni/net.d'}", f"--state-dir={cluster.directory / 'cni/state'}"]
    for command in (["proxy", "--cleanup"], ["network", "--cleanup", *cni]):
        subprocess.run([sys.executable, "-m", "peavine.cmd.main", *command], check=True)


async def _stop_host(host: Host, *, purge: bool) -> None:
    from peavine.cmd.kubelet import cgroup_root
    from peavine.kubelet import containerd

    stop = containerd.purge if purge else containerd.stop_workloads
    await stop(host.directory, cgroup_root=cgroup_root(str(host.directory)))
