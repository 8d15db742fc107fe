"""Requests passed on: to kubelets (log, exec, attach, port-forward, proxy), to services, to other API servers."""
