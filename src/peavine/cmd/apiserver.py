"""The API server: the only door to the store."""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import logging
import os
import sys
from pathlib import Path
from typing import Any

from peavine.apiserver.config import Config, seconds_of
from peavine.apiserver.server import ApiServer
from peavine.base import lifetimes, logs
from peavine.cmd.cluster import primary_address
from peavine.machinery.features import Features, parse_gates
from peavine.store.interface import StoreError

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="peavine apiserver",
        description="Serve the Kubernetes API. On an empty data directory it makes its own keys and "
        "DATA-DIR/admin.kubeconfig, which is a client's way in.",
    )
    p.add_argument("--data-dir", default="", help="keys, kubeconfigs and (unless --store says otherwise) the store")
    p.add_argument("--store", default="", help="sqlite:///path, memory:// or etcd://host:port,... (default: DATA-DIR)")
    p.add_argument("--etcd-servers", default="", help="comma-separated etcd URLs: another way to say --store etcd://")
    p.add_argument("--etcd-cafile", default="", help="CA that signed the certificates of etcd")
    p.add_argument("--etcd-certfile", default="", help="own certificate towards etcd")
    p.add_argument("--etcd-keyfile", default="", help="key of --etcd-certfile")
    p.add_argument("--bind-address", default="0.0.0.0", help="address to listen on")
    p.add_argument("--secure-port", type=int, default=6443, help="port to listen on; 0 takes a free one")
    p.add_argument("--advertise-address", default="", help="address that others reach this server at")
    p.add_argument("--tls-cert-file", default="", help="serving certificate (default: made in DATA-DIR/pki)")
    p.add_argument("--tls-private-key-file", default="", help="key of --tls-cert-file")
    p.add_argument("--tls-san", action="append", default=[], help="another name or address for the own certificate")
    p.add_argument(
        "--client-ca-file", default="", help="CA of client certificates; their subject is the user and the groups"
    )
    p.add_argument(
        "--requestheader-client-ca-file", default="", help="CA of front proxies, whose X-Remote-* headers are believed"
    )
    p.add_argument(
        "--requestheader-allowed-names",
        default="front-proxy-client",
        help="common names that front proxies may have",
        type=_list,
    )
    p.add_argument("--proxy-client-cert-file", default="", help="own certificate towards aggregated API servers")
    p.add_argument("--proxy-client-key-file", default="", help="key of --proxy-client-cert-file")
    p.add_argument("--kubelet-client-certificate", default="", help="own certificate towards kubelets")
    p.add_argument("--kubelet-client-key", default="", help="key of --kubelet-client-certificate")
    p.add_argument("--kubelet-certificate-authority", default="", help="CA of the kubelets' serving certificates")
    p.add_argument(
        "--kubelet-preferred-address-types",
        default="InternalIP,Hostname,InternalDNS,ExternalDNS,ExternalIP",
        help="which node address to use, best first",
        type=_list,
    )
    p.add_argument(
        "--service-account-key-file",
        action="append",
        default=[],
        help="key that verifies service account tokens; may be given several times",
        dest="service_account_key_files",
    )
    p.add_argument("--service-account-signing-key-file", default="", help="key that signs service account tokens")
    p.add_argument(
        "--service-account-issuer",
        default="https://kubernetes.default.svc.cluster.local",
        help="issuer of service account tokens",
    )
    p.add_argument(
        "--api-audiences", default="", help="audiences that tokens for this API name (default: the issuer)", type=_list
    )
    p.add_argument("--token-auth-file", default="", help='CSV of static bearer tokens: token,user,uid,"group,group"')
    p.add_argument(
        "--authentication-config", default="", help="file of kind AuthenticationConfiguration: OIDC, anonymous"
    )
    p.add_argument(
        "--authentication-token-webhook-config-file", default="", help="kubeconfig of a server that knows tokens"
    )
    p.add_argument("--oidc-issuer-url", default="", help="issuer of OpenID Connect tokens")
    p.add_argument("--oidc-client-id", default="", help="audience that OpenID Connect tokens must name")
    p.add_argument("--oidc-username-claim", default="sub", help="claim that is the user's name")
    p.add_argument("--oidc-username-prefix", default="", help="what stands before it; - for nothing")
    p.add_argument("--oidc-groups-claim", default="", help="claim that holds the user's groups")
    p.add_argument("--oidc-groups-prefix", default="", help="what stands before each group")
    p.add_argument(
        "--oidc-required-claim",
        action="append",
        default=[],
        help="claim=value that a token must have",
        dest="oidc_required_claims",
    )
    p.add_argument("--oidc-ca-file", default="", help="CA of the issuer's certificate")
    p.add_argument("--authorization-config", default="", help="file of kind AuthorizationConfiguration")
    p.add_argument("--authorization-webhook-config-file", default="", help="kubeconfig of a server that decides")
    p.add_argument(
        "--anonymous-auth",
        type=_boolean,
        default=True,
        metavar="true|false",
        help="let requests without credentials ask for health",
    )
    p.add_argument(
        "--authorization-mode",
        default="Node,RBAC",
        help="authorizers, asked in order: Node, RBAC, AlwaysAllow, AlwaysDeny",
        type=_list,
        dest="authorization_modes",
    )
    p.add_argument(
        "--enable-admission-plugins", default="", help="admission plugins beyond the default ones", type=_list
    )
    p.add_argument("--disable-admission-plugins", default="", help="default admission plugins to leave out", type=_list)
    p.add_argument("--admission-control-config-file", default="", help="file of kind AdmissionConfiguration")
    p.add_argument(
        "--service-cluster-ip-range",
        default="192.168.0.0/16",
        help="addresses of Services, as CIDR; two with a comma for dual stack",
    )
    p.add_argument("--service-node-port-range", default="30000-32767", help="ports of NodePort Services")
    p.add_argument(
        "--event-ttl", default="1h", help="how long events are kept", type=_seconds, dest="event_ttl_seconds"
    )
    p.add_argument(
        "--request-timeout",
        default="1m0s",
        help="how long a request may take that is no watch or stream",
        type=_seconds,
        dest="request_timeout_seconds",
    )
    p.add_argument("--max-requests-inflight", type=int, default=400, help="reads answered at once")
    p.add_argument("--max-mutating-requests-inflight", type=int, default=200, help="writes answered at once")
    p.add_argument(
        "--etcd-compaction-interval",
        default="5m0s",
        help="how often history is forgotten",
        type=_seconds,
        dest="compaction_interval_seconds",
    )
    p.add_argument(
        "--shutdown-delay-duration",
        default="0s",
        help="how long to go on serving after the signal to stop",
        type=_seconds,
        dest="shutdown_delay_seconds",
    )
    p.add_argument(
        "--enable-priority-and-fairness",
        type=_boolean,
        default=True,
        metavar="true|false",
        help="share the server among users by FlowSchemas; else by plain limits",
    )
    p.add_argument("--audit-log-path", default="", help="default: DATA-DIR/logs/audit.log; - turns auditing off")
    p.add_argument("--audit-log-maxsize", type=int, default=100, help="MiB of one file")
    p.add_argument("--audit-log-maxbackup", type=int, default=10, help="files kept")
    p.add_argument("--audit-log-maxage", type=int, default=30, help="days that files are kept")
    p.add_argument(
        "--audit-policy-file", default="", help="audit policy (default: writes and access to secrets, without bodies)"
    )
    p.add_argument("--audit-webhook-config-file", default="", help="kubeconfig of a server that audit events go to")
    p.add_argument(
        "--encryption-provider-config", default="", help="how Secrets and other resources are encrypted in the store"
    )
    p.add_argument(
        "--kubernetes-version",
        default="1.37",
        choices=[f"1.{minor}" for minor in range(25, 38)],
        metavar="1.25...1.37",
        help="whose groups, kinds and fields to serve, to test clients against that version",
    )
    p.add_argument(
        "--feature-gates",
        default="",
        metavar="NAME=BOOL,...",
        help="switch gates on or off: those that change what the API takes, with upstream's names and defaults",
    )
    p.add_argument("-v", "--v", type=int, default=2, help="log verbosity")
    return p


def _gates(args: argparse.Namespace) -> dict[str, bool]:
    settings = parse_gates(args.feature_gates)
    Features(args.kubernetes_version, settings)  # raises ValueError now, not when the server is half up
    return settings


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError("must be true or false")
    return text.lower() == "true"


def _seconds(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def configure(args: argparse.Namespace) -> Config:
    """Flags as a Config; with --data-dir, what they leave out is made or found there."""
    advertise = args.advertise_address
    if not advertise:
        bound = args.bind_address
        advertise = bound if bound not in ("0.0.0.0", "::", "") else primary_address()
    store = args.store
    if args.etcd_servers:
        store = "etcd://" + ",".join(url.split("://")[-1].rstrip("/") for url in _list(args.etcd_servers))
    etcd = {"ca_file": args.etcd_cafile, "cert_file": args.etcd_certfile, "key_file": args.etcd_keyfile}
    # Flags whose values are configuration as they are have the names of its fields.
    fields = {field.name for field in dataclasses.fields(Config)}
    plain: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in vars(args).items() if name in fields
    }
    config = Config(**plain)
    config.store, config.advertise_address = store or "memory://", advertise
    config.store_options = {name: value for name, value in etcd.items() if value}
    config.audit_log_path = "" if args.audit_log_path == "-" else args.audit_log_path
    config.feature_gates = _gates(args)
    if args.admission_control_config_file:
        from peavine.apiserver.admission.config import load_admission

        config.admission_config = load_admission(args.admission_control_config_file)
    if args.data_dir:
        _from_data_dir(config, args, store)
    return config


def _from_data_dir(config: Config, args: argparse.Namespace, store: str) -> None:
    from peavine.cmd.pki import ensure_pki

    directory = Path(args.data_dir).resolve()
    network = ipaddress.ip_network(config.service_cluster_ip_range.split(",")[0])
    pki = ensure_pki(
        directory,
        advertise_addresses=(config.advertise_address, *(s for s in args.tls_san if _is_address(s))),
        service_ip=str(network[1]),
        dns_names=[s for s in args.tls_san if not _is_address(s)],
    )
    if not store:
        config.store = f"sqlite:///{directory}/store/state.db"
    for field, name in (
        ("tls_cert_file", pki.cert("apiserver")),
        ("tls_private_key_file", pki.key("apiserver")),
        ("client_ca_file", pki.cert("ca")),
        ("requestheader_client_ca_file", pki.cert("front-proxy-ca")),
        ("proxy_client_cert_file", pki.cert("front-proxy-client")),
        ("proxy_client_key_file", pki.key("front-proxy-client")),
        ("kubelet_client_certificate", pki.cert("apiserver-kubelet-client")),
        ("kubelet_client_key", pki.key("apiserver-kubelet-client")),
        ("kubelet_certificate_authority", pki.cert("ca")),
        ("service_account_signing_key_file", pki.service_account_key),
    ):
        if not getattr(config, field):
            setattr(config, field, str(name))
    if not config.encryption_provider_config:
        config.encryption_provider_config = str(pki.encryption_config)
    if not args.audit_log_path:
        config.audit_log_path = str(directory / "logs" / "audit.log")
    if not config.service_account_key_files:
        config.service_account_key_files = (str(pki.service_account_public_key),)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class StartError(Exception):
    """The server cannot start as it is configured; the text says why."""


async def serve(args: argparse.Namespace, config: Config) -> None:
    """Serve until a signal. Raises StartError."""
    server = ApiServer(config)
    async with lifetimes.scope() as tasks:
        try:
            try:
                await server.start(tasks)
            except (ValueError, OSError, StoreError) as error:
                raise StartError(str(error)) from error
            if args.data_dir:
                _write_kubeconfigs(args.data_dir, config, server.port)
            await lifetimes.until_signal()
        finally:
            await server.stop()


def _write_kubeconfigs(data_dir: str, config: Config, port: int) -> None:
    from peavine.cmd.pki import Pki, ensure_kubeconfigs

    host = config.bind_address if config.bind_address not in ("0.0.0.0", "::", "") else "127.0.0.1"
    ensure_kubeconfigs(Pki(Path(data_dir).resolve()), f"https://{host}:{port}")


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    logs.setup(args.v)
    try:
        config = configure(args)
    except (ValueError, OSError) as error:
        parser().error(str(error))
    os.umask(0o077)
    problem = ""
    try:
        return lifetimes.run(serve(args, config))
    except* StartError as group:
        problem = str(_first(group))
    print(f"peavine apiserver: {problem}", file=sys.stderr)
    return 1


def _first(group: BaseExceptionGroup[StartError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
