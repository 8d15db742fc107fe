"""Nodes that exist only in the API: as many as one process is asked for."""

from __future__ import annotations

from peavine.kubelet.cri.simulated import simulated_node_capacity
from peavine.kubelet.node.node import Node
from peavine.kubelet.options import Options


def simulated_nodes(options: Options, count: int) -> list[Node]:
    """One node carries the given name; several are numbered from it: `NAME-0`, `NAME-1`, …"""
    capacity = simulated_node_capacity() | {"pods": str(options.max_pods)}
    info = {
        "machineID": "simulated",
        "systemUUID": "simulated",
        "bootID": "simulated",
        "kernelVersion": "6.1.0-simulated",
        "osImage": "Peavine simulated node",
    }
    nodes = []
    for number in range(count):
        name = options.node_name if count == 1 else f"{options.node_name}-{number}"
        # One server answers for all of them.
        ips = options.node_ips or ["127.0.0.1"]
        nodes.append(
            Node(
                name=name,
                ips=ips,
                hostname=name,
                # Shared on purpose: a thousand nodes have one capacity.
                capacity=capacity,
                allocatable=capacity,
                labels={**options.node_labels, "type": "simulated"},
                port=options.port,
                runtime_version="simulated://1.0",
                info=info,
            )
        )
    return nodes
