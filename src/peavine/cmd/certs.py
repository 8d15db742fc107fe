"""List the cluster's certificates and renew them before they end."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peavine.base.clock import REAL, Clock
from peavine.client.certificates import Refused
from peavine.client.transport import Unreachable
from peavine.cmd import nodecerts
from peavine.cmd.cluster import default_data_dir
from peavine.cmd.pki import (
    CLIENT,
    DAY,
    SERVER,
    Pki,
    Wanted,
    ensure_certificate,
    kubeconfig,
    kubeconfig_server,
    needs_renewal,
    read_kubeconfig_certificate,
)
from peavine.machinery.errors import ApiError
from peavine.machinery.x509 import Certificate, MalformedCertificate, read_pem

KUBELET_SERVING = "kubelet-server-current"  # of a joined node: its kubelet renews it itself
_AUTHORITIES = ("ca", "front-proxy-ca")
_USAGES = {"1.3.6.1.5.5.7.3.2": CLIENT, "1.3.6.1.5.5.7.3.1": SERVER}


@dataclass(frozen=True)
class Found:
    """One certificate of the data directory. `kubeconfig` is the file it is in, where it is not one of its own."""

    name: str
    certificate: Certificate
    authority: str  # "" for an authority itself
    kubeconfig: Path | None = None


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="peavine certs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="show each certificate, whom it names and when it ends")
    renewing = commands.add_parser("renew", help="renew what has less than a third of its life left")
    renewing.add_argument("names", nargs="*", help="only these, and at once")
    renewing.add_argument("--all", action="store_true", help="all of them, at once")
    for command in (listing, renewing):
        command.add_argument("--data-dir", default=default_data_dir(), help="the cluster's (default: %(default)s)")
    return parser


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    pki = Pki(Path(args.data_dir))
    if not pki.cert("ca").exists():
        print(f"peavine certs: {pki.directory}: no certificates here", file=sys.stderr)
        return 1
    if args.command == "list":
        print("\n".join(table(pki)))
        return 0
    known = {found.name for found in certificates(pki)}
    unknown = [name for name in args.names if name not in known]
    if unknown:
        print(f"peavine certs: no such certificate: {', '.join(unknown)}", file=sys.stderr)
        return 1
    try:
        renewed = renew(pki, args.names, everything=args.all)
    except (ApiError, Unreachable, Refused, TimeoutError) as error:
        print(f"peavine certs: {error or 'not signed in time'}", file=sys.stderr)
        return 1
    print("\n".join(f"renewed {name}" for name in renewed) or "nothing needs renewal")
    return 0


def certificates(pki: Pki) -> Iterator[Found]:
    """Authorities first, then certificates by name, then those inside kubeconfigs."""
    key_ids = {}
    for name in _AUTHORITIES:
        if pki.cert(name).exists():
            certificate = read_pem(pki.cert(name).read_bytes())
            key_ids[certificate.subject_key_id] = name
            yield Found(name, certificate, "")
    for path in sorted(pki.directory.glob("*.crt")):
        if path.stem in _AUTHORITIES or not pki.key(path.stem).exists():
            continue
        try:
            certificate = read_pem(path.read_bytes())
        except MalformedCertificate as error:
            print(f"peavine certs: {path}: {error}", file=sys.stderr)
            continue
        default = "front-proxy-ca" if path.stem.startswith("front-proxy") else "ca"
        yield Found(path.stem, certificate, key_ids.get(certificate.authority_key_id, default))
    for path in [pki.admin_kubeconfig, *sorted((pki.data_dir / "kubeconfigs").glob("*.kubeconfig"))]:
        inside = read_kubeconfig_certificate(path)
        if inside is not None:
            yield Found(path.name, inside, "ca", path)
    serving = pki.data_dir / "kubelet" / "pki" / f"{KUBELET_SERVING}.pem"
    if serving.exists():
        yield Found(KUBELET_SERVING, read_pem(serving.read_bytes()), "ca", serving)


def table(pki: Pki, clock: Clock = REAL) -> list[str]:
    rows = [("CERTIFICATE", "EXPIRES", "DAYS LEFT", "AUTHORITY", "NAMES")]
    for found in certificates(pki):
        certificate = found.certificate
        left = int((certificate.not_after - clock.time()) // DAY)
        who = "/".join([*(f"O={group}" for group in certificate.organizations), f"CN={certificate.common_name}"])
        names = [who, *certificate.dns_names, *certificate.ip_addresses]
        expires = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(certificate.not_after))
        rows.append((found.name, expires, str(left), found.authority or "itself", " ".join(names)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]) for row in rows]


def renew(pki: Pki, names: list[str], *, everything: bool = False, clock: Clock = REAL) -> list[str]:
    """Renew what is due, or `names` whether due or not; the same subject and names as before. Returns what was done.

    Authorities are never renewed here: everything in the cluster hangs on them.
    """
    renewed = []
    for found in list(certificates(pki)):
        if not found.authority or (names and found.name not in names):
            continue
        certificate = found.certificate
        good = certificate.authority_key_id == read_pem(pki.cert(found.authority).read_bytes()).subject_key_id
        if not (everything or names or needs_renewal(certificate, clock) or not good):
            continue
        if found.kubeconfig is not None and not pki.key(found.authority).exists():
            # A joined node: its kubelet sees to its own certificates, the others are asked of the cluster.
            if certificate.organizations:
                continue
            asyncio.run(nodecerts.renew(found.kubeconfig, certificate.common_name))
        elif found.kubeconfig is not None:
            server = kubeconfig_server(found.kubeconfig)
            groups = certificate.organizations
            kubeconfig(pki, found.kubeconfig, server, certificate.common_name, groups, clock=clock, force=True)
        else:
            usages = tuple(_USAGES[oid] for oid in certificate.extended_key_usage if oid in _USAGES)
            wanted = Wanted(
                found.name,
                found.authority,
                certificate.common_name,
                tuple(certificate.organizations),
                usages or (CLIENT,),
                certificate.dns_names,
                certificate.ip_addresses,
            )
            ensure_certificate(pki, wanted, clock, force=True)
        renewed.append(found.name)
    return renewed
