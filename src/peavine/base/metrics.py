"""Prometheus metrics of a process: one registry, the standard process metrics, the text exposition."""

from __future__ import annotations

import prometheus_client as prometheus
from prometheus_client import Counter, Gauge, Histogram

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition() -> bytes:
    """Everything registered in this process, in Prometheus' text format."""
    return prometheus.generate_latest()
