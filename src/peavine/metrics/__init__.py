"""The resource metrics API (`metrics.k8s.io`): what nodes and pods use now, for `kubectl top` and the autoscaler.

What belongs here collects from kubelets and answers through the aggregation layer; it keeps one sample, no history.
Upstream: kubernetes-sigs/metrics-server, "Resource metrics pipeline".
"""
