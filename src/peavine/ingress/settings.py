"""What the operator chose for the data plane, from flags."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    run_dir: str
    listen: str = ""
    http_port: int = 80
    https_port: int = 443
    accept_proxy: bool = False
    trust_forwarded: bool = False
    metrics: str = ""
    """HOST:PORT of HAProxy's own metrics"""
    access_log: bool = False
    drain_seconds: int = 300
    """How long an old process may finish its connections after a reload."""
