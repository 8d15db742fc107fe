"""The images that Peavine makes on the spot: the sandboxes' pause, and the example's busybox."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from peavine.kubelet.containerd import PAUSE_IMAGE
from peavine.kubelet.images.archive import Recipe

EXAMPLE_IMAGE = "peavine.local/busybox:1.36"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    b"www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
)
_GROUP = b"root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n"


class NoBinary(Exception):
    """The static binary that the image is made from is not on this machine; the message names the package."""


def _binary(name: str, package: str) -> bytes:
    path = shutil.which(name)
    if path is None:
        raise NoBinary(f"{name} is not on this machine (Debian package {package})")
    return Path(path).read_bytes()


def pause() -> Recipe:
    """catatonit waits for ever, reaps what falls to it, and ends at the first signal: what a sandbox needs."""
    return Recipe(
        name=PAUSE_IMAGE,
        files={"catatonit": (_binary("catatonit", "catatonit"), 0o755)},
        entrypoint=["/catatonit", "-P"],
        environment={"PATH": _PATH},
        user="65535:65535",
    )


def busybox(name: str = EXAMPLE_IMAGE) -> Recipe:
    """A shell and an HTTP server: `busybox-static`, with a link for each of its applets."""
    content = _binary("busybox", "busybox-static")
    listed = subprocess.run(["busybox", "--list"], capture_output=True, check=True, text=True).stdout.split()
    return Recipe(
        name=name,
        files={
            "bin/busybox": (content, 0o755),
            "etc/passwd": (_PASSWD, 0o644),
            "etc/group": (_GROUP, 0o644),
            "www/index.html": (b"Peavine works.\n", 0o644),
        },
        links={f"bin/{applet}": "busybox" for applet in listed if applet != "busybox"},
        directories=["root", "tmp", "var/tmp", "home", "usr/bin", "proc", "sys", "dev"],
        command=["sh"],
        environment={"PATH": _PATH},
    )
