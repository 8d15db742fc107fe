"""Where the API server is and who we are there: kubeconfig files and the in-cluster configuration.

Follows "Organizing Cluster Access Using kubeconfig Files"; merging several files and exec plugins are the CLI's.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"


class ConfigError(Exception):
    """The kubeconfig cannot be used; the message says why."""


class Origin:
    """The kubeconfig that a configuration was read from, and the certificate files that it names."""

    def __init__(self, path: Path, context: str, files: tuple[Path, ...] = ()) -> None:
        self.path, self.context, self.files = path, context, files

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """What changes whenever one of the files is replaced; a file that is gone counts as nothing."""
        found = []
        for path in (self.path, *self.files):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((status.st_mtime_ns, status.st_ino))
        return tuple(found)


class ClientConfig:
    """Everything needed to open a connection. PEM fields are text; empty means absent.

    A client follows `origin`, where there is one: what changes there is used without a restart. `impersonate_extra`
    maps a key to its values; `timeout_seconds` is for one request, 0 is no limit.
    """

    # Written out: the dataclasses module takes longer to import than a command line may take to read its flags.
    def __init__(
        self,
        server: str,
        ca: str = "",
        certificate: str = "",
        key: str = "",
        token: str = "",
        token_file: str = "",
        username: str = "",
        password: str = "",
        namespace: str = "default",
        tls_server_name: str = "",
        insecure: bool = False,
        impersonate: str = "",
        impersonate_groups: list[str] | None = None,
        user_agent: str = "peavine",
        origin: Origin | None = None,
        impersonate_uid: str = "",
        impersonate_extra: dict[str, list[str]] | None = None,
        proxy: str = "",
        timeout_seconds: float = 0.0,
    ) -> None:
        self.server, self.ca, self.certificate, self.key = server, ca, certificate, key
        self.token, self.token_file, self.username, self.password = token, token_file, username, password
        self.namespace, self.tls_server_name, self.insecure = namespace, tls_server_name, insecure
        self.impersonate, self.impersonate_groups = impersonate, impersonate_groups or []
        self.impersonate_uid, self.impersonate_extra = impersonate_uid, impersonate_extra or {}
        self.user_agent, self.origin, self.proxy, self.timeout_seconds = user_agent, origin, proxy, timeout_seconds

    def replaced(self, **changes: Any) -> ClientConfig:
        """A copy with other values."""
        return ClientConfig(**{**vars(self), **changes})

    def ssl_context(self) -> ssl.SSLContext:
        import ssl

        context = ssl.create_default_context(cadata=self.ca or None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            # Both may be in one file, as a kubelet's are.
            _load_chain(context, self.certificate.rstrip() + "\n" + (self.key if self.key != self.certificate else ""))
        return context


def _load_chain(context: ssl.SSLContext, pem: str) -> None:
    """The ssl module reads certificates from files only: one in memory where there is such, else a private one."""
    try:
        descriptor = os.memfd_create("client-certificate")
    except (AttributeError, OSError):
        import tempfile

        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
        return
    try:
        os.write(descriptor, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


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
        import base64

        return base64.b64decode(data).decode()
    return (folder / part[key]).read_text() if part.get(key) else ""


def load_kubeconfig(path: str | os.PathLike[str], context: str = "") -> ClientConfig:
    """The configuration of `context` (the current one unless named) in one kubeconfig file.

    Raises ConfigError for what it cannot use, OSError for what it cannot read.
    """
    from pathlib import Path

    file = Path(path)
    doc = _parse(file.read_bytes(), str(file))
    name = context or doc.get("current-context") or ""
    if not name:
        raise ConfigError(f"{file}: no current context")
    chosen = _named(doc, "contexts", "context", name)
    cluster = _named(doc, "clusters", "cluster", chosen.get("cluster", ""))
    user = _named(doc, "users", "user", chosen["user"]) if chosen.get("user") else {}
    named = (cluster.get("certificate-authority"), user.get("client-certificate"), user.get("client-key"))
    return ClientConfig(
        origin=Origin(file, context, tuple(dict.fromkeys(file.parent / name for name in named if name))),
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
        impersonate_uid=user.get("as-uid", ""),
        impersonate_extra=user.get("as-user-extra"),
        proxy=cluster.get("proxy-url", ""),
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
        ca=_read(f"{SERVICE_ACCOUNT_DIR}/ca.crt"),
        token_file=f"{SERVICE_ACCOUNT_DIR}/token",
        namespace=_read(f"{SERVICE_ACCOUNT_DIR}/namespace").strip(),
    )


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()
