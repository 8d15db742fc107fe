"""Make, list and delete the bootstrap tokens with which machines join."""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import secrets
import string
import sys
from typing import Any

from peavine.api.core import bootstrap_token as tokens
from peavine.client import Client
from peavine.client.transport import Unreachable
from peavine.cmd.cluster import Cluster, default_data_dir
from peavine.machinery.duration import format_duration, parse_duration
from peavine.machinery.errors import ApiError
from peavine.machinery.meta import now as stamp
from peavine.machinery.meta import parse_time

Object = dict[str, Any]
GROUP = "system:bootstrappers:peavine:default-node-token"
RBAC = "rbac.authorization.k8s.io"
READER = "peavine:bootstrap-signer-clusterinfo"
CONFIGURATION = "peavine-config"  # a ConfigMap in kube-system
MANAGER = "peavine-token"


def flags() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(prog="peavine token", description=__doc__)
    options.add_argument("--data-dir", default=default_data_dir(), help="the cluster's (default: %(default)s)")
    commands = options.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a token and print it")
    create.add_argument("token", nargs="?", default="", help="the token itself (default: a random one)")
    create.add_argument("--ttl", default="24h0m0s", help="how long it lives; 0: for ever (default: %(default)s)")
    create.add_argument("--description", default="", help="what it is for")
    create.add_argument("--groups", default=GROUP, help="groups of who shows it (default: %(default)s)")
    create.add_argument("--usages", default="signing,authentication", help="what it is good for (default: %(default)s)")
    create.add_argument("--print-join-command", action="store_true", help="print the whole command for the new machine")
    commands.add_parser("list", help="show the tokens")
    delete = commands.add_parser("delete", help="delete tokens")
    delete.add_argument("tokens", nargs="+", help="whole tokens, or their first six characters")
    commands.add_parser("generate", help="print a random token, without making it one")
    for command in commands.choices.values():  # after the verb, too
        command.add_argument("--data-dir", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return options


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    if args.command == "generate":
        print(random_token())
        return 0
    try:
        cluster = Cluster.load(args.data_dir)
        if cluster is None or cluster.joined:
            raise ValueError(f"no cluster in {args.data_dir}; `peavine up` makes one")
        text = asyncio.run(_answer(args, cluster))
    except (ValueError, OSError, ApiError, Unreachable) as error:
        print(f"peavine token: {error}", file=sys.stderr)
        return 1
    print(text)
    return 0


def random_token() -> str:
    alphabet = string.ascii_lowercase + string.digits
    return ".".join("".join(secrets.choice(alphabet) for _ in range(length)) for length in (6, 16))


async def _answer(args: argparse.Namespace, cluster: Cluster) -> str:
    client = Client.from_kubeconfig(cluster.admin_kubeconfig, user_agent="peavine-token")
    kept = client.resource("v1", "secrets")
    if args.command == "list":
        found = await kept.list(tokens.NAMESPACE, field_selector=f"type={tokens.SECRET_TYPE}")
        return "\n".join(table(found["items"], client.clock.time()))
    if args.command == "delete":
        lines = []
        for token in args.tokens:
            identifier = token.partition(".")[0]
            await kept.delete(tokens.NAME_PREFIX + identifier, tokens.NAMESPACE)
            lines.append(f'bootstrap token "{identifier}" deleted')
        return "\n".join(lines)
    token = args.token or random_token()
    seconds = parse_duration(args.ttl) if args.ttl != "0" else 0
    expiration = stamp(client.clock.time() + seconds) if seconds else ""
    usages, groups = ([part for part in text.split(",") if part] for text in (args.usages, args.groups))
    secret = tokens.secret_of(token, expiration=expiration, usages=usages, groups=groups, description=args.description)
    for plural, obj in discovery(cluster):
        meta = obj["metadata"]
        await client.resource(obj["apiVersion"], plural).patch(
            meta["name"], obj, meta["namespace"], type="apply", field_manager=MANAGER, force=True
        )
    await kept.create(secret)
    if not args.print_join_command:
        return token
    address = cluster.server.removeprefix("https://")
    return f"peavine join {address} --token {token} --discovery-token-ca-cert-hash {ca_hash(cluster)}"


def discovery(cluster: Cluster) -> list[tuple[str, Object]]:
    """What a joining machine finds: where the API server is and its CA (the bootstrap signer signs that), who may read
    it, and the networks of the cluster.
    """
    authority = (cluster.directory / "pki" / "ca.crt").read_bytes()
    entry = {"server": cluster.server, "certificate-authority-data": base64.b64encode(authority).decode()}
    kubeconfig = {"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "", "cluster": entry}]}
    networks = {
        "podRange": cluster.pod_range,
        "serviceRange": cluster.service_range,
        "proxyMode": cluster.proxy_mode,
        "backend": cluster.backend,
    }
    reader = {"name": READER, "namespace": tokens.PUBLIC_NAMESPACE}
    return [
        _config_map(tokens.PUBLIC_NAMESPACE, tokens.CONFIG_MAP, {"kubeconfig": json.dumps(kubeconfig)}),
        _config_map(tokens.NAMESPACE, CONFIGURATION, {"networks": json.dumps(networks)}),
        (
            "roles",
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "Role",
                "metadata": reader,
                "rules": [
                    {
                        "apiGroups": [""],
                        "resources": ["configmaps"],
                        "resourceNames": [tokens.CONFIG_MAP],
                        "verbs": ["get"],
                    }
                ],
            },
        ),
        (
            "rolebindings",
            {
                "apiVersion": f"{RBAC}/v1",
                "kind": "RoleBinding",
                "metadata": reader,
                "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": READER},
                "subjects": [{"kind": "User", "name": "system:anonymous", "apiGroup": RBAC}],
            },
        ),
    ]


def _config_map(namespace: str, name: str, data: dict[str, str]) -> tuple[str, Object]:
    metadata = {"name": name, "namespace": namespace}
    return "configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def ca_hash(cluster: Cluster) -> str:
    return public_key_hash((cluster.directory / "pki" / "ca.crt").read_bytes())


def public_key_hash(certificate: bytes) -> str:
    """kubeadm's pin of a CA: `sha256:` and the hash of its public key (SubjectPublicKeyInfo)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = x509.load_pem_x509_certificate(certificate).public_key()
    return "sha256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def table(found: list[Object], now: float) -> list[str]:
    rows = [("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")]
    for secret in found:
        until = tokens.field(secret, "expiration")
        left = format_duration(max(0, int(parse_time(until) - now))) if until else "<forever>"
        usages = [u for u in tokens.USAGES if tokens.field(secret, f"usage-bootstrap-{u}") == "true"]
        rows.append(
            (
                f"{tokens.field(secret, 'token-id')}.{tokens.field(secret, 'token-secret')}",
                left,
                until or "<never>",
                ",".join(usages) or "<none>",
                tokens.field(secret, "description") or "<none>",
                tokens.field(secret, "auth-extra-groups") or "<none>",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return ["   ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[5]]) for row in rows]
