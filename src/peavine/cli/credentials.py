"""Credential plugins: a program of the user's that hands out a token or a certificate.

Follows "client-go credential plugins" of `client.authentication.k8s.io`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any, NamedTuple

from peavine.cli.failures import CliError

Object = dict[str, Any]
_API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_SECONDS_MAX = 60.0
_EXTENSION = "client.authentication.k8s.io/exec"


class Credentials(NamedTuple):
    token: str
    certificate: str
    key: str


def ask_plugin(plugin: Object, cluster: Object) -> Credentials:
    """Run the plugin. Its error stream is the user's. Raises CliError."""
    import orjson

    api_version, command = plugin.get("apiVersion", ""), plugin.get("command", "")
    if api_version not in _API_VERSIONS:
        raise CliError(f"exec plugin: invalid apiVersion {orjson.dumps(api_version).decode()}")
    mode = plugin.get("interactiveMode") or ("IfAvailable" if api_version.endswith("v1beta1") else "")
    if not mode:
        raise CliError(
            f"invalid configuration: interactiveMode must be specified for {command} to use exec authentication plugin"
        )
    terminal = sys.stdin.isatty()
    if mode == "Always" and not terminal:
        raise CliError(
            "getting credentials: exec plugin cannot support interactive mode: standard input is not a terminal"
        )
    interactive = mode != "Never" and terminal
    spec: Object = {"interactive": interactive}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = _cluster_info(cluster)
    info = {"kind": "ExecCredential", "apiVersion": api_version, "spec": spec}
    environment = {**os.environ, "KUBERNETES_EXEC_INFO": orjson.dumps(info).decode()}
    environment.update({pair["name"]: pair["value"] for pair in plugin.get("env") or ()})
    if not shutil.which(command, path=environment.get("PATH")):
        raise CliError(f"getting credentials: exec: executable {command} not found\n{_missing(plugin)}")
    try:
        done = subprocess.run(
            [command, *(plugin.get("args") or ())],
            env=environment,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=None if interactive else _SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CliError(f"getting credentials: exec: {error}") from None
    if done.returncode:
        raise CliError(f"getting credentials: exec: executable {command} failed with exit code {done.returncode}")
    return _credentials(done.stdout, api_version)


def _missing(plugin: Object) -> str:
    page = "https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins"
    said = (
        "\nIt looks like you are trying to use a client-go credential plugin that is not installed.\n\nTo learn more "
        f"about this feature, consult the documentation available at:\n      {page}"
    )
    return said + (f"\n\n{plugin['installHint'].rstrip()}\n" if plugin.get("installHint") else "")


def _cluster_info(cluster: Object) -> Object:
    info: Object = {"server": cluster.get("server", "")}
    for key in ("tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url"):
        if cluster.get(key):
            info[key] = cluster[key]
    if cluster.get("certificate-authority") and "certificate-authority-data" not in info:
        import base64

        with open(cluster["certificate-authority"], "rb") as file:
            info["certificate-authority-data"] = base64.b64encode(file.read()).decode()
    extensions = {entry.get("name"): entry.get("extension") for entry in cluster.get("extensions") or ()}
    return {**info, "config": extensions.get(_EXTENSION)}


def _credentials(output: bytes, api_version: str) -> Credentials:
    import orjson

    try:
        document = orjson.loads(output)
    except ValueError as error:
        raise CliError(f"getting credentials: decoding stdout: {error}") from None
    if not isinstance(document, dict) or document.get("kind") != "ExecCredential":
        raise CliError("getting credentials: decoding stdout: no ExecCredential in it")
    if document.get("apiVersion") != api_version:
        raise CliError(
            f"getting credentials: exec plugin is configured to use API version {api_version}, plugin returned version "
            f"{document.get('apiVersion')}"
        )
    status = document.get("status")
    if not isinstance(status, dict):
        raise CliError("getting credentials: exec plugin didn't return a status field")
    token, certificate = status.get("token", ""), status.get("clientCertificateData", "")
    key = status.get("clientKeyData", "")
    if not (token or certificate or key):
        raise CliError("getting credentials: exec plugin didn't return a token or cert/key pair")
    if bool(certificate) != bool(key):
        raise CliError("getting credentials: exec plugin returned only certificate or key, not both")
    return Credentials(token, certificate, key)
