"""How fast a load balancer's address moves: `python bench/load_balancer.py` (as root, with containerd).

Three hosts as network namespaces, pods on each; the host that answers for the address gets a power cut, and a client
on the hosts' network asks on and on. Printed are the seconds from the cut to the first answer from another host.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.test_ingress import NET, POOL, SERVER, Client, apply, balanced, holder, servers
from tests.e2e.test_many_nodes import cluster

ADDRESS = f"{NET}.201"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "bench"
        directory.mkdir()
        flags = ["--nodes=3", f"--node-cidr={NET}.0/24", "--ingress", f"--load-balancer-pool={POOL}"]
        with cluster(directory, *flags) as (machine, kubectl), Client(machine) as client:
            kubectl("create", "configmap", "server", f"--from-literal=server.py={SERVER}")
            apply(
                kubectl, *servers("all", 0), balanced("b", "all", loadBalancerIP=ADDRESS, externalTrafficPolicy="Local")
            )
            kubectl("rollout", "status", "daemonset/all", "--timeout=90s")
            for _ in range(2):
                while not client.get(f"http://{ADDRESS}/", seconds=1):
                    time.sleep(0.1)
                while len(holder(ADDRESS)) != 1:
                    time.sleep(0.1)
                (old,) = holder(ADDRESS)
                start = time.monotonic()
                machine.peavine("down", f"--data-dir={directory}", f"--node=m-{old}")
                cut = time.monotonic()
                while not client.get(f"http://{ADDRESS}/", seconds=0.2):
                    time.sleep(0.05)
                end = time.monotonic()
                print(f"the address moved {end - start:.1f} s after the cut began ({end - cut:.1f} s after its end)")


if __name__ == "__main__":
    main()
