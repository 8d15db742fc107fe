"""The modes by name. Each is imported only when it is used."""

from __future__ import annotations

import importlib
import logging
import os

from peavine.proxy.backend import Backend, Settings

log = logging.getLogger(__name__)

BACKENDS = {
    "nftables": ("peavine.proxy.nftables", "NftablesBackend"),
    "iptables": ("peavine.proxy.iptables", "IptablesBackend"),
    "ipvs": ("peavine.proxy.ipvs", "IpvsBackend"),
    "userspace": ("peavine.proxy.userspace", "UserspaceBackend"),
}


def make(mode: str, settings: Settings) -> Backend:
    """Raises BackendUnavailable when this machine cannot run the mode."""
    module, name = BACKENDS[mode]
    return getattr(importlib.import_module(module), name)(settings)


def cleanup(keep: str = "") -> None:
    """Remove what every mode but `keep` may have left in the kernel. What is not there is no error."""
    for mode, (module, _) in BACKENDS.items():
        if mode != keep:
            importlib.import_module(module).cleanup()


def families() -> tuple[bool, ...]:
    """The address families of this machine: IPv4, and IPv6 unless it is switched off."""
    return (False, True) if os.path.exists("/proc/net/if_inet6") else (False,)
