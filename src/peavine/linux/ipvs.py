"""IPVS, the kernel's load balancer: virtual services and their servers, through ipvsadm's save format."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from peavine.linux import programs

_FLAGS = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}
_PROTOCOLS = {flag: name for name, flag in _FLAGS.items()}


@dataclass(frozen=True, slots=True)
class Virtual:
    """What clients address."""

    protocol: str
    address: str
    port: int

    def words(self) -> str:
        return f"{_FLAGS[self.protocol]} {_joined(self.address, self.port)}"


@dataclass(slots=True)
class Service:
    scheduler: str = "rr"
    persistent_seconds: int = 0
    servers: dict[tuple[str, int], int] = field(default_factory=dict)
    """(address, port) to weight; weight 0 gets no new connections."""


Table = dict[Virtual, Service]


def available() -> bool:
    """Whether this kernel has IPVS and ipvsadm is installed."""
    if not programs.available("ipvsadm"):
        return False
    try:
        programs.run(["ipvsadm", "-L", "-n"])
    except OSError:
        return False
    return True


def load() -> Table:
    return parse(programs.run(["ipvsadm", "-S", "-n"], check=False))


def parse(saved: str) -> Table:
    """`ipvsadm -S -n`'s output. Services by firewall mark are not ours and are left out."""
    table: Table = {}
    for line in saved.splitlines():
        words = line.split()
        if len(words) < 3 or words[1] not in _PROTOCOLS:
            continue
        address, port = _split(words[2])
        virtual = Virtual(_PROTOCOLS[words[1]], address, port)
        options = dict(itertools.pairwise(words[3:]))
        if words[0] == "-A":
            persistent = int(options["-p"]) if "-p" in options and options["-p"].isdigit() else 0
            table[virtual] = Service(options.get("-s", "rr"), persistent)
        elif words[0] == "-a" and "-r" in options:
            table[virtual].servers[_split(options["-r"])] = int(options.get("-w", "1"))
    return table


def difference(have: Table, want: Table) -> str:
    """The `ipvsadm -R` input that turns one table into the other; connections of what stays are not touched. Pure."""
    lines = [f"-D {virtual.words()}" for virtual in have if virtual not in want]
    for virtual, service in want.items():
        old = have.get(virtual)
        words = virtual.words()
        persistent = f" -p {service.persistent_seconds}" if service.persistent_seconds else ""
        if old is None or (old.scheduler, old.persistent_seconds) != (service.scheduler, service.persistent_seconds):
            lines.append(f"{'-A' if old is None else '-E'} {words} -s {service.scheduler}{persistent}")
        servers = old.servers if old else {}
        for server, weight in service.servers.items():
            if servers.get(server) != weight:
                verb = "-e" if server in servers else "-a"
                lines.append(f"{verb} {words} -r {_joined(*server)} -m -w {weight}")
        lines += [f"-d {words} -r {_joined(*server)}" for server in servers if server not in service.servers]
    return "\n".join(lines) + ("\n" if lines else "")


def keep_connections(have: Table, want: Table) -> None:
    """Servers that leave a service which stays remain in `want` with weight 0: no new connections, but the old ones go
    on. UDP has none that deserve it.
    """
    for virtual, service in want.items():
        old = have.get(virtual)
        if old is not None and virtual.protocol != "udp":
            leaving = {server: 0 for server in old.servers if server not in service.servers}
            want[virtual] = Service(service.scheduler, service.persistent_seconds, {**service.servers, **leaving})


def drop_idle(table: Table) -> Table:
    """Remove servers of weight 0 which have no connection any more; returns the table without them."""
    if not any(weight == 0 for service in table.values() for weight in service.servers.values()):
        return table
    busy = connections(programs.run(["ipvsadm", "-L", "-n"], check=False))
    kept = {
        virtual: Service(
            service.scheduler,
            service.persistent_seconds,
            {s: w for s, w in service.servers.items() if w or busy.get((virtual, s))},
        )
        for virtual, service in table.items()
    }
    restore(difference(table, kept))
    return kept


def connections(listed: str) -> dict[tuple[Virtual, tuple[str, int]], int]:
    """`ipvsadm -L -n`'s output: connections, active or ending, of each server."""
    found = {}
    virtual = None
    for line in listed.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0].lower() in _FLAGS:
            virtual = Virtual(words[0].lower(), *_split(words[1]))
        elif len(words) == 6 and words[0] == "->" and words[3].isdigit() and virtual is not None:
            found[virtual, _split(words[1])] = int(words[4]) + int(words[5])
    return found


def set_timeouts(tcp: int, tcp_fin: int, udp: int) -> None:
    """In seconds; 0 leaves one as it is."""
    programs.run(["ipvsadm", "--set", str(tcp), str(tcp_fin), str(udp)])


def restore(commands: str) -> None:
    if commands:
        programs.run(["ipvsadm", "-R"], commands)


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _split(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)
