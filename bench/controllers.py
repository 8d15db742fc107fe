"""Many Deployments settle: `python bench/controllers.py [DEPLOYMENTS] [REPLICAS]`.

API server, controllers, scheduler and simulated nodes in one process. Prints how long it takes until all replicas are
available, how many writes that cost per Deployment, and what a settled cluster still writes in ten seconds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter

from peavine.base.lifetimes import scope
from peavine.client import Informer
from peavine.testing import AsyncCluster
from peavine.testing.requests import WRITES

QUIET_SECONDS = 10.0
PODS_PER_NODE = 100


def deployment(index: int, replicas: int) -> dict:
    labels = {"app": f"web-{index}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"web-{index}", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "example.com/web:1"}]},
            },
        },
    }


async def main(count: int, replicas: int) -> None:
    nodes = count * replicas // PODS_PER_NODE + 1
    async with AsyncCluster(nodes=nodes) as cluster, scope() as tasks:
        deployments = cluster.client.resource("apps/v1", "deployments")
        settled = asyncio.Event()
        ready: set[str] = set()

        def look(obj: dict) -> None:
            if (obj.get("status") or {}).get("availableReplicas", 0) == replicas:
                ready.add(obj["metadata"]["name"])
            if len(ready) == count:
                settled.set()

        informer = Informer(deployments, "default")
        informer.add_handler(look, lambda old, new: look(new))
        tasks.start(informer.run(), name="watch")
        await asyncio.sleep(1)
        cluster.requests.forget()
        started = time.monotonic()
        for first in range(0, count, 50):
            part = range(first, min(count, first + 50))
            await asyncio.gather(*(deployments.create(deployment(i, replicas)) for i in part))
        await settled.wait()
        seconds = time.monotonic() - started
        writes = Counter((r.verb, r.resource, r.subresource) for r in cluster.requests.writes())
        print(f"{count} Deployments of {replicas} on {nodes} nodes settled in {seconds:.1f} s")
        print(f"\n{'write':44} {'count':>8} {'per Deployment':>15}")
        for (verb, resource, subresource), n in writes.most_common():
            print(f"{verb + ' ' + resource + ('/' + subresource if subresource else ''):44} {n:8} {n / count:15.2f}")
        # Events and the last status writes come after the last pod.
        await asyncio.sleep(QUIET_SECONDS)
        cluster.requests.forget()
        await asyncio.sleep(QUIET_SECONDS)
        late = Counter((r.verb, r.resource) for r in cluster.requests.seen if r.verb in WRITES)
        print(f"\nwrites in {QUIET_SECONDS:.0f} s once settled: {dict(late) or 'none'}")


if __name__ == "__main__":
    arguments = [int(a) for a in sys.argv[1:]]
    asyncio.run(main(*(arguments + [1000, 3][len(arguments) :])))
