"""The scheduler: finds a node for each pod."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

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
        if configuration.leader_election.get("leaderElect") is False:
            args.leader_elect = False
    client = connect(args, "scheduler")
    await wait_ready(client)
    await led(args, client, lambda: run_scheduler(client, configuration=configuration))


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    return serve(args, _main(args))
