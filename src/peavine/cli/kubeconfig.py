"""Kubeconfig files as kubectl uses them: several merged, contexts, overrides by flags, credential plugins.

Follows "Organizing Cluster Access Using kubeconfig Files" and "client-go credential plugins".
"""

from __future__ import annotations

import os

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed
from peavine.client.bodies import loads
from peavine.client.config import ClientConfig, ConfigError, in_cluster
from peavine.client.proxies import proxy_from_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Object = dict[str, Any]
_FILES = {"cluster": ("certificate-authority",), "user": ("client-certificate", "client-key", "tokenFile")}


def paths(flags: Parsed) -> list[str]:
    """The files in force, first the one that is written to."""
    if flags.get("kubeconfig"):
        return [flags["kubeconfig"]]
    named = [part for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return named or [os.path.expanduser("~/.kube/config")]


def load(flags: Parsed, *, missing_ok: bool = False) -> Object:
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
        if not os.path.exists(path):
            if flags.get("kubeconfig") and not missing_ok:
                raise CliError(f"stat {path}: no such file or directory")
            continue
        document = read(path)
        folder = os.path.dirname(os.path.abspath(path))
        for section, part in (("clusters", "cluster"), ("contexts", "context"), ("users", "user")):
            known = {entry.get("name") for entry in merged[section]}
            for entry in document.get(section) or ():
                if entry.get("name") not in known:
                    merged[section].append({**entry, part: _absolute(entry.get(part) or {}, part, folder)})
        for key in ("current-context", "preferences", "extensions"):
            if document.get(key) and not merged.get(key):
                merged[key] = document[key]
    return merged


def read(path: str) -> Object:
    """One file. Raises CliError for one that cannot be parsed."""
    with open(path, "rb") as file:
        data = file.read()
    if data.lstrip()[:1] == b"{":
        try:
            document = loads(data)
        except ValueError as error:
            raise CliError(f'error loading config file "{path}": {error}') from None
    else:
        from peavine.cli.plainyaml import NotPlain, parse

        try:
            document = parse(data.decode())
        except (NotPlain, UnicodeDecodeError):
            document = _read_yaml(path, data)
    return document if isinstance(document, dict) else {}


def _read_yaml(path: str, data: bytes) -> Any:
    from peavine.machinery.codecs import yaml

    try:
        return yaml.decode(data, few_words=True)
    except yaml.YamlError as error:
        raise CliError(f'error loading config file "{path}": {error}') from None


def write(path: str, document: Object) -> None:
    from peavine.cli.output.documents import to_yaml

    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    temporary = path + ".new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(to_yaml(document))
    os.replace(temporary, path)


def _absolute(part: Object, kind: str, folder: str) -> Object:
    found = dict(part)
    for key in _FILES.get(kind, ()):
        if found.get(key) and not os.path.isabs(found[key]):
            found[key] = os.path.join(folder, found[key])
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
    _check(cluster, user, flags)
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
            impersonate_uid=flags.get("as-uid") or user.get("as-uid", ""),
            impersonate_extra=_extra(flags) or user.get("as-user-extra") or {},
            proxy=cluster.get("proxy-url") or proxy_from_environment(server),
            timeout_seconds=_timeout(flags),
            namespace=context.get("namespace") or "default",
            user_agent="kubectl/v1.37.0 (peavine)",
        )
    except OSError as error:
        raise CliError(f"unable to read {error.filename}: {error.strerror}") from None
    if user.get("exec") and not (config.token or config.certificate):
        _run_plugin(user["exec"], cluster, config)
    return config


def _check(cluster: Object, user: Object, flags: Parsed) -> None:
    """Refuse what contradicts itself, in client-go's words."""
    if (flags.get("insecure-skip-tls-verify") or cluster.get("insecure-skip-tls-verify")) and (
        flags.get("certificate-authority")
        or cluster.get("certificate-authority")
        or cluster.get("certificate-authority-data")
    ):
        raise CliError("specifying a root certificates file with the insecure flag is not allowed")
    if user.get("token") and user.get("username") and not (flags.get("token") or flags.get("username")):
        raise CliError(
            "more than one authentication method found for user; found [token basicAuth], only one is allowed"
        )
    named = flags.get("as") or user.get("as")
    if not named and (flags.get("as-group") or flags.get("as-uid") or flags.get("as-user-extra")):
        raise CliError("requesting uid, groups or user-extra without impersonating a user")


def _extra(flags: Parsed) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for pair in flags.get("as-user-extra") or ():
        key, _, value = pair.partition("=")
        found.setdefault(key, []).append(value)
    return found


def _timeout(flags: Parsed) -> float:
    text = flags.get("request-timeout") or "0"
    if text == "0":
        return 0.0
    from peavine.machinery.duration import parse_duration

    try:
        return parse_duration(text + "s" if text.isdecimal() else text)
    except ValueError:
        raise CliError(
            "Invalid timeout value. Timeout must be a single integer in seconds, or an integer followed by a "
            "corresponding time unit (e.g. 1s | 2m | 3h)"
        ) from None


def _pem(part: Object, key: str) -> str:
    if part.get(key + "-data"):
        import base64

        try:
            return base64.b64decode(part[key + "-data"]).decode()
        except ValueError:
            raise CliError(f"illegal base64 data in {key}-data") from None
    if not part.get(key):
        return ""
    with open(part[key]) as file:
        return file.read()


def _run_plugin(plugin: Object, cluster: Object, config: ClientConfig) -> None:
    from peavine.cli.credentials import ask_plugin

    found = ask_plugin(plugin, cluster)
    config.token, config.certificate, config.key = found.token, found.certificate, found.key
