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

from peavine.cmd.cluster import Cluster, default_data_dir
from peavine.cmd.supervise import lock

STOP_SECONDS_MAX = 60.0


def flags() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="peavine down", description=__doc__)
    options.add_argument("--data-dir", default=default_data_dir(), help="data directory (default: %(default)s)")
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


def _stop_workloads(cluster: Cluster, *, purge: bool) -> None:
    from peavine.cmd.kubelet import cgroup_root
    from peavine.kubelet import containerd
    from peavine.linux import cgroups

    root = cgroup_root(cluster.data_dir)
    stop = containerd.purge if purge else containerd.stop_workloads
    asyncio.run(stop(cluster.data_dir, cgroup_root=root))
    # The parent is shared by all clusters of the machine: the last one takes it along.
    cgroups.remove_if_empty(root.rpartition("/")[0])
    cni = [f"--cni-conf-dir={cluster.directory / 'cni/net.d'}", f"--state-dir={cluster.directory / 'cni/state'}"]
    for command in (["proxy", "--cleanup"], ["network", "--cleanup", *cni]):
        subprocess.run([sys.executable, "-m", "peavine.cmd.main", *command], check=True)
