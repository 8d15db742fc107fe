"""A Debian kernel in QEMU over this machine's own files: for what the kernel at hand lacks (IPVS).

The guest sees the machine's root read-only through 9p, with a layer in memory on top, so that Python, the package and
the tests are simply there. It works without KVM: booting takes some four seconds, everything else is ten times slower.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
for module in $($b cat /modules); do $b insmod /$module; done
$b mkdir -p /lower /upper /new
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /lower
$b mount -t tmpfs tmpfs /upper
$b mkdir /upper/upper /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work overlay /new
$b cp /run.sh /new/guest.sh
exec $b chroot /new /bin/sh /guest.sh
"""
RUN = """mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs tmp /run; mount -t tmpfs tmp /var/tmp; mkdir -p /lib/modules /run/netns
[ -e /lib/modules/{version} ] || ln -s {modules} /lib/modules/{version}
ip link set lo up
export PATH={path} HOME=/root TMPDIR=/var/tmp PYTHONDONTWRITEBYTECODE=1 {environment}
cd {directory}
{command}
echo "guest: status $?"
echo o > /proc/sysrq-trigger
while :; do :; done
"""


class GuestUnavailable(Exception):
    """What is missing."""


@dataclass(frozen=True)
class Kernel:
    image: Path
    modules: Path

    @property
    def version(self) -> str:
        return self.modules.name


def kernel(tree: str) -> Kernel:
    """The kernel of an unpacked Debian package (`dpkg-deb -x`, then `depmod`). Raises GuestUnavailable."""
    if not tree:
        raise GuestUnavailable("PEAVINE_GUEST_KERNEL names no unpacked kernel package (script/test-ipvs makes one)")
    if missing := [name for name in ("qemu-system-x86_64", "modprobe", "busybox") if _find(name) is None]:
        raise GuestUnavailable(f"{', '.join(missing)} not installed")
    for modules in sorted(Path(tree, "lib/modules").glob("*")):
        image = Path(tree, "boot", f"vmlinuz-{modules.name}")
        if image.exists() and (modules / "modules.dep").exists():
            return Kernel(image.resolve(), modules.resolve())
    raise GuestUnavailable(f"{tree} holds no kernel with modules.dep")


def run(found: Kernel, command: list[str], directory: Path, scratch: Path, *, seconds: float = 900) -> tuple[int, str]:
    """(exit status, output) of a command as root in the guest; -1 if it never ended."""
    archive = scratch / "initramfs"
    archive.write_bytes(_initramfs(found, command, directory))
    qemu = [
        _find("qemu-system-x86_64") or "qemu-system-x86_64",
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048", "-smp", "2"),
        *("-nographic", "-no-reboot", "-nic", "none"),
        *("-kernel", str(found.image), "-initrd", str(archive), "-append", "console=ttyS0 quiet panic=-1"),
        *("-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"),
    ]
    try:
        done = subprocess.run(qemu, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False)
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    text = output.decode(errors="replace").replace("\r", "")
    _, _, status = text.rpartition("guest: status ")
    number = status.split("\n")[0]
    return (int(number) if number.isdigit() else -1), text


def _find(name: str) -> str | None:
    return shutil.which(name, path=PATH)


def _initramfs(found: Kernel, command: list[str], directory: Path) -> bytes:
    tree = found.modules.parents[2]
    listed: list[str] = []
    for name in NEEDED:
        shown = subprocess.run(
            [_find("modprobe") or "modprobe", "-d", str(tree), "-S", found.version, "--show-depends", name],
            capture_output=True,
            text=True,
            check=True,
        )
        listed += [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("insmod")]
    modules = list(dict.fromkeys(listed))
    environment = " ".join(f"{k}={shlex.quote(v)}" for k, v in os.environ.items() if k == "PYTHONPATH")
    script = RUN.format(
        version=found.version,
        modules=found.modules,
        path=PATH,
        environment=environment,
        directory=shlex.quote(str(directory)),
        command=shlex.join(command),
    )
    files = {f"m{number}": Path(path).read_bytes() for number, path in enumerate(modules)}
    files["modules"] = " ".join(files).encode()
    files |= {
        "bin/busybox": Path(_find("busybox") or "").read_bytes(),
        "init": INIT.encode(),
        "run.sh": script.encode(),
    }
    return _cpio(["bin", "proc"], files)


def _cpio(directories: list[str], files: dict[str, bytes]) -> bytes:
    """The "newc" form, as the kernel unpacks it. Everything may be executed."""
    entries = [*((name, 0o040755, b"") for name in directories), *((n, 0o100755, data) for n, data in files.items())]
    out = bytearray()
    for number, (name, mode, data) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)
