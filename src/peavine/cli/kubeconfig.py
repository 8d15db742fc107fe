"""Kubeconfig files as kubectl uses them: several merged, contexts, overrides by flags, credential plugins.

Follows "Organizing Cluster Access Using kubeconfig Files" and "client-go credential plugins".
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.client.config import ClientConfig, ConfigError, in_cluster

Object = dict[str, Any]
_FILES = {"cluster": ("certificate-authority",), "user": ("client-certificate", "client-key", "tokenFile")}


def paths(flags: Parsed) -> list[Path]:
    """The files in force, first the one that is written to."""
    if flags.get("kubeconfig"):
        return [Path(flags["kubeconfig"])]
    named = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [Path.home() / ".kube" / "config"]


def load(flags: Parsed) -> Object:
    """All files as one: of equal names the first wins, relative paths become absolute."""
    merged: Object = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [],
        "contexts": [],
        "users": [],
        "preferences": {},
    }
    for path in dict.fromkeys(paths(flags)):
        if not path.exists():
            if flags.get("kubeconfig"):
                raise CliError(f"stat {path}: no such file or directory")
            continue
        document = read(path)
        for section, part in (("clusters", "cluster"), ("contexts", "context"), ("users", "user")):
            known = {entry.get("name") for entry in merged[section]}
            for entry in document.get(section) or ():
                if entry.get("name") not in known:
                    merged[section].append({**entry, part: _absolute(entry.get(part) or {}, part, path.parent)})
        for key in ("current-context", "preferences", "extensions"):
            if document.get(key) and not merged.get(key):
                merged[key] = document[key]
    return merged


def read(path: Path) -> Object:
    from peavine.machinery.codecs import json, yaml

    data = path.read_bytes()
    try:
        document = json.decode(data) if data.lstrip()[:1] == b"{" else yaml.decode(data)
    except (json.JsonError, yaml.YamlError) as error:
        raise CliError(f'error loading config file "{path}": {error}') from None
    return document if isinstance(document, dict) else {}


def write(path: Path, document: Object) -> None:
    from peavine.machinery.codecs import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(yaml.encode(document))
    os.replace(temporary, path)


def _absolute(part: Object, kind: str, folder: Path) -> Object:
    found = dict(part)
    for key in _FILES.get(kind, ()):
        if found.get(key) and not os.path.isabs(found[key]):
            found[key] = str(folder / found[key])
    return found


def entry(document: Object, section: str, name: str) -> Object | None:
    """The cluster, context or user of that name."""
    part = section.removesuffix("s")
    for item in document.get(section) or ():
        if item.get("name") == name:
            return item.get(part) or {}
    return None


def current_context(document: Object, flags: Parsed) -> str:
    return flags.get("context") or document.get("current-context") or ""


def client_config(flags: Parsed) -> ClientConfig:
    """Where to connect and as whom, after files, flags, and (in a pod without either) the service account."""
    document = load(flags)
    name = current_context(document, flags)
    context = entry(document, "contexts", name)
    if flags.get("context") and context is None:
        raise CliError(f'context "{name}" does not exist')
    context = context or {}
    if not document["clusters"] and not flags.get("server") and os.environ.get("KUBERNETES_SERVICE_HOST"):
        try:
            return in_cluster()
        except (ConfigError, OSError) as error:
            raise CliError(str(error)) from None
    cluster_name = flags.get("cluster") or context.get("cluster", "")
    cluster = entry(document, "clusters", cluster_name)
    if cluster is None and flags.get("cluster"):
        raise CliError(f'cluster "{cluster_name}" does not exist')
    chosen = flags.get("user")
    chosen = chosen if isinstance(chosen, str) else ""  # `create rolebinding --user` means something else
    user_name = chosen or context.get("user", "")
    user = entry(document, "users", user_name)
    if user is None and chosen:
        raise CliError(f'auth info "{user_name}" does not exist')
    return _config(cluster or {}, user or {}, context, flags)


def _config(cluster: Object, user: Object, context: Object, flags: Parsed) -> ClientConfig:
    server = flags.get("server") or cluster.get("server") or "http://localhost:8080"
    if "://" not in server:
        server = "https://" + server
    try:
        config = ClientConfig(
            server=server.rstrip("/"),
            ca=_pem({"certificate-authority": flags.get("certificate-authority")}, "certificate-authority")
            or _pem(cluster, "certificate-authority"),
            insecure=bool(flags.get("insecure-skip-tls-verify") or cluster.get("insecure-skip-tls-verify")),
            tls_server_name=flags.get("tls-server-name") or cluster.get("tls-server-name", ""),
            certificate=_pem({"client-certificate": flags.get("client-certificate")}, "client-certificate")
            or _pem(user, "client-certificate"),
            key=_pem({"client-key": flags.get("client-key")}, "client-key") or _pem(user, "client-key"),
            token=flags.get("token") or user.get("token", ""),
            token_file="" if flags.get("token") else user.get("tokenFile", ""),
            username=flags.get("username") or user.get("username", ""),
            password=flags.get("password") or user.get("password", ""),
            impersonate=flags.get("as") or user.get("as", ""),
            impersonate_groups=list(flags.get("as-group") or user.get("as-groups") or ()),
            namespace=context.get("namespace") or "default",
            user_agent="kubectl/v1.37.0 (peavine)",
        )
    except OSError as error:
        raise CliError(f"unable to read {error.filename}: {error.strerror}") from None
    if user.get("exec") and not (config.token or config.certificate):
        _run_plugin(user["exec"], cluster, config)
    return config


def _pem(part: Object, key: str) -> str:
    if part.get(key + "-data"):
        return base64.b64decode(part[key + "-data"]).decode()
    return Path(part[key]).read_text() if part.get(key) else ""


def _run_plugin(plugin: Object, cluster: Object, config: ClientConfig) -> None:
    """Ask a credential plugin for a token or certificate."""
    import subprocess

    import orjson

    spec: Object = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = {key: value for key, value in cluster.items() if key != "extensions"}
    api_version = plugin.get("apiVersion", "client.authentication.k8s.io/v1")
    info = orjson.dumps({"apiVersion": api_version, "kind": "ExecCredential", "spec": spec}).decode()
    environment = {**os.environ, "KUBERNETES_EXEC_INFO": info}
    environment.update({pair["name"]: pair["value"] for pair in plugin.get("env") or ()})
    command = [plugin.get("command", ""), *(plugin.get("args") or ())]
    try:
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=60, check=False)
    except FileNotFoundError:
        hint = f"\n\n{plugin['installHint']}" if plugin.get("installHint") else ""
        raise CliError(f"getting credentials: exec: executable {command[0]} not found{hint}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CliError(f"getting credentials: exec: {error}") from None
    if done.returncode:
        raise CliError(f"getting credentials: exec: executable {command[0]} failed with exit code {done.returncode}")
    try:
        status = orjson.loads(done.stdout).get("status") or {}
    except (orjson.JSONDecodeError, AttributeError):
        raise CliError("getting credentials: decoding stdout: not an ExecCredential") from None
    config.token = status.get("token", "")
    config.certificate, config.key = status.get("clientCertificateData", ""), status.get("clientKeyData", "")
