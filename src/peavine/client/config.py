"""Where the API server is and who we are there: kubeconfig files and the in-cluster configuration.

Follows "Organizing Cluster Access Using kubeconfig Files"; merging several files and exec plugins are the CLI's.
"""

from __future__ import annotations

import base64
import os
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class ConfigError(Exception):
    """The kubeconfig cannot be used; the message says why."""


@dataclass
class ClientConfig:
    """Everything needed to open a connection. PEM fields are text; empty means absent."""

    server: str
    ca: str = ""
    certificate: str = ""
    key: str = ""
    token: str = ""
    token_file: str = ""
    username: str = ""
    password: str = ""
    namespace: str = "default"
    tls_server_name: str = ""
    insecure: bool = False
    impersonate: str = ""
    impersonate_groups: list[str] = field(default_factory=list)
    user_agent: str = "peavine"

    def ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.ca or None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            # The ssl module reads certificates from files only: a private one, gone after the call.
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as pem:
                pem.write(self.certificate.rstrip() + "\n" + self.key)
                pem.flush()
                context.load_cert_chain(pem.name)
        return context


def _parse(text: bytes, origin: str) -> dict[str, Any]:
    import orjson

    try:
        doc = orjson.loads(text)
    except orjson.JSONDecodeError:
        import yaml

        try:
            doc = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        except yaml.YAMLError as error:
            raise ConfigError(f"error loading config file {origin!r}: {error}") from error
    if not isinstance(doc, dict):
        raise ConfigError(f"error loading config file {origin!r}: not an object")
    return doc


def _named(doc: dict[str, Any], section: str, part: str, name: str) -> dict[str, Any]:
    for entry in doc.get(section) or []:
        if entry.get("name") == name:
            return entry.get(part) or {}
    raise ConfigError(f"{part} {name!r} does not exist")


def _pem(part: dict[str, Any], key: str, folder: Path) -> str:
    """The PEM under `key-data` (base64) or in the file named by `key`, which is relative to the kubeconfig."""
    if data := part.get(key + "-data"):
        return base64.b64decode(data).decode()
    return (folder / part[key]).read_text() if part.get(key) else ""


def load_kubeconfig(path: str | os.PathLike[str], context: str = "") -> ClientConfig:
    """The configuration of `context` (the current one unless named) in one kubeconfig file.

    Raises ConfigError for what it cannot use, OSError for what it cannot read.
    """
    file = Path(path)
    doc = _parse(file.read_bytes(), str(file))
    name = context or doc.get("current-context") or ""
    if not name:
        raise ConfigError(f"{file}: no current context")
    chosen = _named(doc, "contexts", "context", name)
    cluster = _named(doc, "clusters", "cluster", chosen.get("cluster", ""))
    user = _named(doc, "users", "user", chosen["user"]) if chosen.get("user") else {}
    return ClientConfig(
        server=cluster.get("server", "").rstrip("/"),
        ca=_pem(cluster, "certificate-authority", file.parent),
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        tls_server_name=cluster.get("tls-server-name", ""),
        certificate=_pem(user, "client-certificate", file.parent),
        key=_pem(user, "client-key", file.parent),
        token=user.get("token", ""),
        token_file=user.get("tokenFile", ""),
        username=user.get("username", ""),
        password=user.get("password", ""),
        impersonate=user.get("as", ""),
        impersonate_groups=user.get("as-groups") or [],
        namespace=chosen.get("namespace") or "default",
    )


def in_cluster() -> ClientConfig:
    """The configuration of a process in a pod, from its service account's mount."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ConfigError(
            "unable to load in-cluster configuration, "
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
        )
    return ClientConfig(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        ca=(SERVICE_ACCOUNT_DIR / "ca.crt").read_text(),
        token_file=str(SERVICE_ACCOUNT_DIR / "token"),
        namespace=(SERVICE_ACCOUNT_DIR / "namespace").read_text().strip(),
    )
