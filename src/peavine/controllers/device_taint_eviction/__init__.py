"""Pods leave devices that are tainted NoExecute: `taints` says which and when (pure), `controller` evicts and reports.

Upstream: pkg/controller/devicetainteviction; KEP-5055 (device taints and tolerations).
"""
