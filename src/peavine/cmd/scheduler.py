"""The scheduler: finds a node for each pod."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peavine.client.rest import wait_ready
from peavine.cmd.process import connect, leader_flags, led, parser, serve


def flags() -> argparse.ArgumentParser:
    options = parser("scheduler", __doc__ or "", secure_port=10259)
    leader_flags(options, "kube-scheduler")
    options.add_argument("--config", default="", help="a KubeSchedulerConfiguration (kubescheduler.config.k8s.io/v1)")
    return options


async def _main(args: argparse.Namespace) -> None:
    # The arrays are small: threads of linear algebra would only take memory. Read when NumPy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from peavine.scheduler.config import ConfigurationError, load
    from peavine.scheduler.scheduler import run_scheduler

    configuration = None
    if args.config:
        try:
            configuration = load(await asyncio.to_thread(Path(args.config).read_text))
        except (ConfigurationError, OSError) as error:
            raise SystemExit(f"peavine scheduler: {args.config}: {error}") from error
        args.kubeconfig = args.kubeconfig or configuration.kubeconfig
        _elect(args, configuration.leader_election)
    client = connect(args, "scheduler")
    await wait_ready(client)
    await led(args, client, lambda: run_scheduler(client, configuration=configuration))


def _elect(args: argparse.Namespace, wanted: Mapping[str, Any]) -> None:
    """What the configuration says of leader election; it counts instead of the flags, as upstream's."""
    from peavine.scheduler.plugin_args import seconds_of

    args.leader_elect = wanted.get("leaderElect", args.leader_elect)
    for field, flag in (
        ("leaseDuration", "leader_elect_lease_duration"),
        ("renewDeadline", "leader_elect_renew_deadline"),
        ("retryPeriod", "leader_elect_retry_period"),
    ):
        if wanted.get(field):
            setattr(args, flag, seconds_of(wanted[field]))
    args.leader_elect_resource_name = wanted.get("resourceName") or args.leader_elect_resource_name
    args.leader_elect_resource_namespace = wanted.get("resourceNamespace") or args.leader_elect_resource_namespace


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    return serve(args, _main(args))
