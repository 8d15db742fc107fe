"""The CNI configuration that the container runtime reads: bridge with host-local addresses, port mappings,
bandwidth.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from peavine.linux import links

NAME = "peavine"
FILE = "10-peavine.conflist"
# The newest that the plugins of Debian 12 (1.1.1) speak.
CNI_VERSION = "1.0.0"


def conflist(
    subnets: Sequence[str], *, bridge: str, mtu: int, state_dir: Path, plugins: Sequence[str] = ("portmap", "bandwidth")
) -> dict[str, Any]:
    """One range per family; a pod gets one address of each, the bridge is its gateway."""
    routes = [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets]
    chain: list[dict[str, Any]] = [
        {
            "type": "bridge",
            "bridge": bridge,
            "isGateway": True,
            "hairpinMode": True,
            "ipMasq": False,
            "mtu": mtu,
            "ipam": {
                "type": "host-local",
                "dataDir": str(state_dir),
                "ranges": [[{"subnet": subnet}] for subnet in subnets],
                "routes": routes,
            },
        }
    ]
    if "portmap" in plugins:
        chain.append({"type": "portmap", "capabilities": {"portMappings": True}, "snat": True})
    if "bandwidth" in plugins:
        chain.append({"type": "bandwidth", "capabilities": {"bandwidth": True}})
    return {"cniVersion": CNI_VERSION, "name": NAME, "plugins": chain}


def write(folder: Path, config: dict[str, Any]) -> bool:
    """Put the configuration in place, whole or not at all. False when it was there already."""
    path = folder / FILE
    data = orjson.dumps(config, option=orjson.OPT_INDENT_2) + b"\n"
    if path.exists() and path.read_bytes() == data:
        return False
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    # The runtime watches the folder and reads what ends in .conflist: the temporary name must not.
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".peavine-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return True


def remove(folder: Path) -> None:
    (folder / FILE).unlink(missing_ok=True)


def available_plugins(folders: Sequence[Path]) -> list[str]:
    """The chained plugins that are installed: without one, pods run, only without what it gives."""
    return [name for name in ("portmap", "bandwidth") if any(os.access(f / name, os.X_OK) for f in folders)]


def ensure_bridge(name: str, subnets: Sequence[str], mtu: int) -> None:
    """Make the bridge before the first pod does, so that its addresses can be listened on and routed to at once."""
    if links.link(name) is None:
        # An address of its own, or it would take that of each new port with a lower one and pods would lose their
        # gateway.
        # No snooping: without a multicast router it only delays the neighbour discovery of new pods.
        mac = "02:" + ":".join(f"{b:02x}" for b in secrets.token_bytes(5))
        links.batch([f"link add {name} address {mac} mtu {mtu} type bridge mcast_snooping 0"])
    # Duplicate address detection never ends on a bridge without ports, and until it has nothing is forwarded to pods.
    links.set_sysctl(f"net/ipv6/conf/{name}/accept_dad", "0")
    links.batch([f"link set {name} up"])
    wanted = {links.gateway_of(subnet) for subnet in subnets}
    have = {f"{address}/{length}" for _, address, length in links.addresses(name)}
    links.batch(
        [f"address del {a} dev {name}" for a in sorted(have - wanted)]
        + [f"address add {a} dev {name}{' nodad' if ':' in a else ''}" for a in sorted(wanted - have)]
    )
