"""No Kubernetes word lives here: task lifetimes, clocks, backoff, logging, metrics.
Anything in this package could serve a program that has never heard of a pod.
"""
