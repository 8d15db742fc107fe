"""The client certificates of a joined node's processes: asked of the cluster, for there is no CA on such a machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

from peavine.client import Client
from peavine.client.certificates import Subject, key_pem, new_key, request_certificate
from peavine.client.config import load_kubeconfig
from peavine.cmd.pki import COMPONENT_USERS, kubeconfig_text, make_private, write_private

SIGNER = "kubernetes.io/kube-apiserver-client"
COMPONENTS = ("network", "proxy", "dns")
WAIT_SECONDS_MAX = 60.0


async def obtain(client: Client, directory: Path) -> None:
    """A kubeconfig for each of a node's processes, below `directory`/kubeconfigs; certificates as `client`'s user may
    have them. Raises as request_certificate.
    """
    make_private(directory / "kubeconfigs")
    for component in COMPONENTS:
        await _ask(client, directory / "kubeconfigs" / f"{component}.kubeconfig", COMPONENT_USERS[component][0])


async def renew(kubeconfig: Path, common_name: str) -> None:
    """A new certificate in a kubeconfig, asked for with the one that is in it. Raises as request_certificate."""
    client = Client(load_kubeconfig(kubeconfig), user_agent="peavine-certs")
    try:
        await _ask(client, kubeconfig, common_name)
    finally:
        client.close()


async def _ask(client: Client, path: Path, common_name: str) -> None:
    key, config = new_key(), client.config
    subject = Subject(SIGNER, common_name)
    certificate = await request_certificate(client, subject, key, seconds_max=WAIT_SECONDS_MAX)
    text = kubeconfig_text(config.server, config.ca, common_name, certificate, key_pem(key))
    await asyncio.to_thread(write_private, path, text)
