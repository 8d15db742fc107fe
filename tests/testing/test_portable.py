"""Nothing that only Linux has is needed for a cluster in a test.

There is no Mac here: a Python process is made to look like one, by taking away what macOS lacks.
"""

import subprocess
import sys

import pytest

AS_ON_A_MAC = """
import builtins, os, platform, select, signal, socket, sys, sysconfig, urllib.request

sysconfig.get_config_vars()  # these two modules have parts of their own for a Mac: they come before

sys.platform = "darwin"
platform.system, platform.machine = (lambda: "Darwin"), (lambda: "arm64")
for module, names in {
    os: "eventfd memfd_create pidfd_open sched_getaffinity sched_setaffinity getrandom posix_fadvise fallocate "
        "posix_fallocate splice getxattr setxattr listxattr removexattr getresuid setresuid",
    select: "epoll",
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo",
    socket: "AF_NETLINK AF_PACKET AF_VSOCK AF_ALG SO_BINDTODEVICE SO_MARK TCP_USER_TIMEOUT TCP_QUICKACK "
            "SOCK_CLOEXEC SOCK_NONBLOCK",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

class NotHere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pyroute2", "uvloop", "spwd"):
            raise ModuleNotFoundError(f"{name} is for Linux")

sys.meta_path.insert(0, NotHere())
real_open = builtins.open

def no_proc(file, *args, **named):
    if isinstance(file, str) and file.startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(2, "there is no such thing on a Mac", file)
    return real_open(file, *args, **named)

builtins.open = no_proc

from peavine.testing import Cluster

with Cluster(nodes=1) as cluster:
    cluster.create_namespace("mac")
    from peavine.client import Client
    import asyncio

    async def main():
        client = Client.from_kubeconfig(cluster.kubeconfig)
        spec = {"containers": [{"name": "main", "image": "work"}]}
        await client.resource("v1", "pods").create({"metadata": {"name": "p"}, "spec": spec}, "mac")
        async for _, pod in client.resource("v1", "pods").watch("mac", resource_version="0"):
            if pod["status"].get("phase") == "Running":
                return

    asyncio.run(main())
    print("it runs")
"""


@pytest.mark.slow
def test_a_cluster_runs_without_what_only_linux_has(tmp_path):
    command = [sys.executable, "-c", AS_ON_A_MAC]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stdout == "it runs\n", done.stdout + done.stderr
