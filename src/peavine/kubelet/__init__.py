"""The node agent: pod workers, CRI, volumes, probes, images, eviction, the kubelet's server."""
