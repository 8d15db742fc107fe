"""The kubelet's own HTTPS server: pods, logs, exec, statistics, metrics; who may ask, and the answers."""
