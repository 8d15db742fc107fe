"""Peavine's own containerd: its configuration, its life, and its removal without a trace.

Decision 9: Debian's binary with root, state and socket below the data directory, so that no other runtime of the
machine is disturbed. containerd outlives a killed kubelet, and containers outlive a killed containerd: their shims
are adopted at its next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from peavine.base.clock import REAL, Clock
from peavine.kubelet.rpc.errors import RpcError
from peavine.linux import cgroups, mounts, processes

if TYPE_CHECKING:
    from peavine.kubelet.cri.client import CriClient

log = logging.getLogger(__name__)

PAUSE_IMAGE = "peavine.local/pause:3.10"
READY_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 10.0
# Snapshotters, differs and services that a kubelet never uses: each costs start-up time and memory.
DISABLED_PLUGINS = (
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.monitor.v1.cgroups",
)


@dataclass(frozen=True)
class Layout:
    """Where one instance keeps its things; everything follows from the data directory."""

    data_dir: Path
    cni_bin_dir: Path = Path("/usr/lib/cni")
    foreign_cni_conf_dir: Path | None = None
    """Where another network than ours writes its configuration."""
    pause_image: str = PAUSE_IMAGE
    registry_hosts_dir: Path | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.data_dir / "containerd"

    @property
    def socket(self) -> Path:
        return self.home / "containerd.sock"

    @property
    def config(self) -> Path:
        return self.home / "config.toml"

    @property
    def cni_conf_dir(self) -> Path:
        return self.foreign_cni_conf_dir or self.data_dir / "cni" / "net.d"


def containerd_command(data_dir: str | os.PathLike[str]) -> list[str]:
    """The command line of this data directory's containerd; `write_config` must have run before it is started."""
    layout = Layout(Path(data_dir))
    return [shutil.which("containerd") or "containerd", "--config", str(layout.config)]


def _may_raise_oom_score() -> bool:
    """Whether this process may lower oom_score_adj below what it has: CAP_SYS_RESOURCE (bit 24), effective."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 24 & 1)
    return False


def more_handlers() -> dict[str, tuple[str, str]]:
    """Runtime handlers beside runc, for RuntimeClasses: those whose programs are on this machine.

    Name -> (containerd's runtime type, binary for the runc shim or empty).
    """
    found = {}
    for name in ("crun", "youki"):
        if (binary := shutil.which(name)) is not None:
            found[name] = ("io.containerd.runc.v2", binary)
    for name, shim in (("runsc", "containerd-shim-runsc-v1"), ("kata", "containerd-shim-kata-v2")):
        if shutil.which(shim) is not None:
            found[name] = (f"io.containerd.{name}.v{shim[-1]}", "")
    return found


def _render_handlers(home: Path) -> str:
    parts = []
    for name, (kind, binary) in more_handlers().items():
        table = f'plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}'
        parts.append(f'    [{table}]\n      runtime_type = "{kind}"\n')
        if binary:
            options = (
                f'        BinaryName = "{binary}"\n        SystemdCgroup = false\n        Root = "{home}/{name}"\n'
            )
            parts.append(f"      [{table}.options]\n{options}")
    return "\n".join(parts)


def render_config(layout: Layout, *, restrict_oom_score: bool) -> str:
    """containerd's configuration, version 2 (understood by 1.3 to 2.x)."""
    home = layout.home
    disabled = ", ".join(f'"{name}"' for name in DISABLED_PLUGINS)
    hosts = layout.registry_hosts_dir or layout.data_dir / "containerd" / "certs.d"
    return f"""version = 2
root = "{home}/root"
state = "{home}/state"
oom_score = 0
disabled_plugins = [{disabled}]

[grpc]
  address = "{layout.socket}"

[debug]
  level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{layout.pause_image}"
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_selinux = false
  restrict_oom_score_adj = {"true" if restrict_oom_score else "false"}
  netns_mounts_under_state_dir = true
  max_concurrent_downloads = 3

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    discard_unpacked_layers = false

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      pod_annotations = []

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{home}/runc"

{_render_handlers(home)}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{layout.cni_bin_dir}"
    conf_dir = "{layout.cni_conf_dir}"
    max_conf_num = 1

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{hosts}"
"""


def write_config(layout: Layout) -> Path:
    """Write the configuration if it differs; makes the directories that containerd does not."""
    for directory in (layout.home, layout.home / "certs.d", layout.cni_conf_dir):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = render_config(layout, restrict_oom_score=not _may_raise_oom_score())
    if not layout.config.exists() or layout.config.read_text() != text:
        draft = layout.config.with_suffix(".new")
        draft.write_text(text)
        draft.replace(layout.config)
    return layout.config


def _cri(layout: Layout) -> CriClient:
    # gRPC costs 15 MB: who only wants the command line or the configuration does without.
    from peavine.kubelet.cri.client import CriClient

    return CriClient(str(layout.socket))


async def is_serving(layout: Layout) -> bool:
    """Whether an instance answers on this data directory's socket."""
    if not layout.socket.exists():
        return False
    client = _cri(layout)
    try:
        async with asyncio.timeout(2):
            await client.version()
        return True
    except (RpcError, TimeoutError):
        return False
    finally:
        await client.close()


async def wait_ready(layout: Layout, seconds: float = READY_SECONDS_MAX, clock: Clock = REAL) -> None:
    """Return once CRI answers. Raises TimeoutError. containerd says nothing when it is ready, hence the poll."""
    async with asyncio.timeout(seconds):
        while not await is_serving(layout):
            await clock.sleep(0.05)


async def start(
    data_dir: str | os.PathLike[str], *, log_path: str | os.PathLike[str] | None = None, layout: Layout | None = None
) -> int | None:
    """Start containerd as a process of its own session, or adopt the one that serves already.

    Returns the pid of a new process, None for an adopted one. Raises RuntimeError if it ends, TimeoutError if it does
    not get ready; both with the end of its log.
    """
    layout = layout or Layout(Path(data_dir))
    write_config(layout)
    if await is_serving(layout):
        return None
    log_file = Path(log_path) if log_path else layout.home / "containerd.log"
    process = _spawn(containerd_command(layout.data_dir), log_file)
    try:
        async with asyncio.timeout(READY_SECONDS_MAX):
            while not await is_serving(layout):
                if process.poll() is not None:
                    raise RuntimeError(f"containerd ended with {process.returncode}: {_tail(log_file)}")
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise TimeoutError(f"containerd is not ready after {READY_SECONDS_MAX:.0f} s: {_tail(log_file)}") from error
    return process.pid


def _spawn(command: list[str], log_file: Path) -> subprocess.Popen[bytes]:
    """A process of its own session, which outlives this one."""
    with open(log_file, "ab") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)


def _tail(path: Path, size: int = 2000) -> str:
    with contextlib.suppress(OSError):
        return path.read_bytes()[-size:].decode("utf-8", "replace")
    return ""


async def stop(data_dir: str | os.PathLike[str]) -> None:
    """End this data directory's containerd. Its containers go on under their shims."""
    layout = Layout(Path(data_dir))
    wanted = str(layout.config)
    for pid, command in processes.commands():
        if len(command) >= 3 and Path(command[0]).name == "containerd" and wanted in command:
            await processes.end(pid, seconds=STOP_SECONDS_MAX)


async def stop_workloads(data_dir: str | os.PathLike[str], *, cgroup_root: str = "") -> None:
    """End every pod and containerd itself; images and state stay. Afterwards no process, mount or control group of
    the instance is left.

    Works from any state: if containerd does not serve, it is started once more to take its pods down properly (the
    network plugin gives addresses and rules back only then), and what still remains is removed by force.
    """
    layout = Layout(Path(data_dir))
    if shutil.which("containerd") and (layout.home / "root").exists():
        try:
            await start(layout.data_dir)
            await _remove_pods(layout)
        except (OSError, RuntimeError, TimeoutError, RpcError) as error:
            log.warning("containers are removed by force: %s", error)
    await stop(layout.data_dir)
    await _kill_shims(layout)
    for directory in (layout.home, layout.data_dir / "kubelet"):
        mounts.unmount_below(directory)
    if cgroup_root:
        await cgroups.remove_tree(cgroup_root)
        above = cgroup_root.rpartition("/")[0]
        if above:
            cgroups.remove_if_empty(above)


async def purge(data_dir: str | os.PathLike[str], *, cgroup_root: str = "") -> None:
    """`stop_workloads`, and the files of containerd and kubelet too."""
    layout = Layout(Path(data_dir))
    if not layout.home.exists():
        return
    await stop_workloads(data_dir, cgroup_root=cgroup_root)
    for directory in (layout.home, layout.data_dir / "kubelet"):
        # Never remove files through a mount that would not go.
        if not mounts.below(directory):
            shutil.rmtree(directory, ignore_errors=True)


async def _remove_pods(layout: Layout) -> None:
    client = _cri(layout)

    async def remove(sandbox: str) -> None:
        try:
            await client.stop_sandbox(sandbox)
            await client.remove_sandbox(sandbox)
        except RpcError as error:
            log.warning("sandbox %s: %s", sandbox, error)

    try:
        async with asyncio.timeout(60):
            for container in await client.list_containers():
                with contextlib.suppress(RpcError):
                    await client.stop_container(container["id"], 0)
            sandboxes = [sandbox["id"] for sandbox in await client.list_sandboxes()]
            for first in range(0, len(sandboxes), 8):
                await asyncio.gather(*(remove(sandbox) for sandbox in sandboxes[first : first + 8]))
    finally:
        await client.close()


async def _kill_shims(layout: Layout) -> None:
    """End shims that serve our socket, and what runs below them; remove their sockets."""
    address = str(layout.socket)
    for pid, command in processes.commands():
        if command and Path(command[0]).name.startswith("containerd-shim") and address in command:
            for child in processes.descendants(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            await processes.end(pid, seconds=1)
    _remove_shim_sockets(layout)


def _remove_shim_sockets(layout: Layout) -> None:
    for path in (layout.home / "state").glob("io.containerd.runtime.v2.task/*/*/address"):
        with contextlib.suppress(OSError):
            shim_socket = Path(path.read_text().removeprefix("unix://").strip())
            if shim_socket.parent == Path("/run/containerd/s"):
                shim_socket.unlink()
