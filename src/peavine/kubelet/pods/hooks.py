"""Lifecycle hooks: postStart and preStop, by exec, HTTP, TCP or sleep."""

from __future__ import annotations

from typing import Any

from peavine.base.clock import Clock
from peavine.kubelet.cri.runtime import RpcError, Runtime
from peavine.kubelet.probes.prober import http_probe, port_of, tcp_probe

Object = dict[str, Any]
HTTP_SECONDS_MAX = 30.0


class HookError(Exception):
    """The hook failed; the message is for the event."""


async def run_hook(
    handler: Object, *, container: Object, container_id: str, pod_ip: str, runtime: Runtime, clock: Clock
) -> None:
    """Run one LifecycleHandler to its end. Raises HookError."""
    if execute := handler.get("exec"):
        command = execute.get("command") or []
        try:
            result = await runtime.exec_sync(container_id, command)
        except RpcError as error:
            raise HookError(f"Exec lifecycle hook ({_shown(command)}) failed - error: {error}") from error
        if result.exit_code:
            output = (result.stdout + result.stderr).decode("utf-8", "replace")
            raise HookError(
                f"Exec lifecycle hook ({_shown(command)}) failed - error: command"
                f" '{' '.join(command)}' exited with {result.exit_code}: {output}"
            )
    elif get := handler.get("httpGet"):
        ok, output = await http_probe(
            get, host=get.get("host") or pod_ip, port=port_of(container, get.get("port", 80)), timeout=HTTP_SECONDS_MAX
        )
        if not ok:
            raise HookError(f"HTTP lifecycle hook ({get.get('path', '/')}) failed - error: {output}")
    elif sleep := handler.get("sleep"):
        await clock.sleep(float(sleep.get("seconds", 0)))
    elif tcp := handler.get("tcpSocket"):
        port = port_of(container, tcp.get("port", 0))
        ok, output = await tcp_probe(tcp.get("host") or pod_ip, port, HTTP_SECONDS_MAX)
        if not ok:
            raise HookError(f"TCP lifecycle hook (port {port}) failed - error: {output}")


def _shown(command: list[str]) -> str:
    return "[" + " ".join(command) + "]"
