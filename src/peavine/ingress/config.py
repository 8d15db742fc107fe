"""A routing as HAProxy's configuration and maps. Pure: text in, text out.

A backend has spare servers, disabled, that get addresses at run time without a reload.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from peavine.ingress import frontends, mirror
from peavine.ingress.model import NOT_FOUND, Backend, Routing, Server
from peavine.ingress.rules import userlist
from peavine.ingress.settings import Settings

spare_share = 0.5
slots_min = 4


@dataclass(slots=True)
class Rendered:
    config: str
    files: dict[str, str] = field(default_factory=dict)
    """Maps and certificate lists: name to content, to be put in the generation's folder."""


Slots = dict[str, list[Server | None]]


def slots_for(servers: Sequence[Server], old: Sequence[Server | None] = ()) -> list[Server | None]:
    """Servers in slots, with room to grow; who had a slot keeps it where it still exists."""
    count = max(
        slots_min, len(old) if len(old) <= 4 * max(1, len(servers)) else 0, int(len(servers) * (1 + spare_share))
    )
    slots: list[Server | None] = [None] * count
    rest = []
    for server in servers:
        if server in old and old.index(server) < count:
            slots[old.index(server)] = server
        else:
            rest.append(server)
    for server in rest:
        slots[slots.index(None)] = server
    return slots


def render(routing: Routing, slots: Slots, settings: Settings, folder: str) -> Rendered:
    """`folder` is where the maps will be."""
    faces, files = frontends.render(routing, settings, folder)
    script = ""
    if mirror.is_used(routing.backends.values()):
        files[mirror.FILE] = mirror.SCRIPT
        script = f"    lua-load {folder}/{mirror.FILE}\n"
    sections = [_head(settings, script)]
    sections += faces
    if settings.metrics:
        sections.append(
            f"frontend metrics\n    bind {settings.metrics}\n    http-request use-service prometheus-exporter "
            "if { path /metrics }\n    http-request return status 404\n"
        )
    answer = 'http-request return status 404 content-type text/plain string "default backend - 404"'
    sections.append(f"backend {NOT_FOUND}\n    {answer}\n")
    for users in sorted({b.users for b in routing.backends.values() if b.users}):
        sections.append(f"userlist {userlist(users)}\n" + "".join(f"    user {u} password {h}\n" for u, h in users))
    for name in sorted(routing.backends):
        sections.append(_backend(routing.backends[name], slots.get(name, ())))
    return Rendered("\n".join(sections), files)


def _head(settings: Settings, script: str) -> str:
    log = "    log stdout format raw local0\n" if settings.access_log else ""
    return (
        "global\n"
        f"    stats socket {settings.run_dir}/stats.sock mode 600 level admin expose-fd listeners\n"
        "    stats timeout 1h\n"
        f"    hard-stop-after {settings.drain_seconds}s\n"
        "    ssl-default-bind-options ssl-min-ver TLSv1.2\n"
        "    ssl-default-bind-ciphers ECDHE+AESGCM:ECDHE+CHACHA20\n"
        "    tune.ssl.default-dh-param 2048\n"
        f"{log}{script}"
        "\ndefaults\n"
        "    mode http\n"
        # An old worker says goodbye in its next answer instead of cutting connections that a request may be on.
        "    option idle-close-on-response\n"
        "    option redispatch 1\n"
        "    retries 3\n"
        "    http-reuse safe\n"
        "    timeout connect 5s\n"
        "    timeout client 60s\n"
        "    timeout server 60s\n"
        "    timeout http-request 30s\n"
        "    timeout http-keep-alive 60s\n"
        "    timeout queue 30s\n"
        "    timeout tunnel 1h\n" + ("    log global\n    option httplog\n" if settings.access_log else "")
    )


def _backend(backend: Backend, slots: Sequence[Server | None]) -> str:
    lines = [f"backend {backend.name}", *(f"    {line}" for line in backend.lines)]
    for number, server in enumerate(slots):
        cookie = f" cookie s{number}" if backend.sticky else ""
        where = _joined(server) if server else "127.0.0.1:1"
        lines.append(f"    server s{number} {where}{backend.words}{cookie}{'' if server else ' disabled'}")
    return "\n".join(lines) + "\n"


def _joined(server: Server) -> str:
    return f"[{server.address}]:{server.port}" if ":" in server.address else f"{server.address}:{server.port}"


def guilty(config: str, complaint: str) -> tuple[set[str], list[str]]:
    """What HAProxy complained of (`[FILE:LINE]` in its words): names of backends, and lines of choices."""
    lines = config.split("\n")
    found, choices = set(), []
    for number in re.findall(r"\[[^\]]*:(\d+)\]", complaint):
        last = min(int(number), len(lines)) - 1
        if lines[last].startswith("    use_backend ") and " if " in lines[last]:
            choices.append(lines[last])
            continue
        for at in range(last, -1, -1):
            if lines[at] and not lines[at].startswith(" "):
                words = lines[at].split()
                if words[0] == "backend" and words[1] != NOT_FOUND:
                    found.add(words[1])
                break
    return found, choices
