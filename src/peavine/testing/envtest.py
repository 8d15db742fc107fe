"""Stand-ins for the programs that Go's envtest starts (controller-runtime, `pkg/envtest`): etcd and kube-apiserver.

envtest runs each program below KUBEBUILDER_ASSETS with `--help` to see which flags it has, then for good, asks its
health URL every 100 ms, and ends it by SIGTERM. The stand-in for etcd keeps nothing itself: it only tells the other
one, at /peavine/data-dir, which directory the test gave it for the state.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from peavine.base import lifetimes, pages

DATA_DIR_PATH = "/peavine/data-dir"
PROGRAMS = ("etcd", "kube-apiserver")
# Flags that take lists and may be given several times: upstream joins what they say.
LISTS = (
    "--authorization-mode",
    "--enable-admission-plugins",
    "--disable-admission-plugins",
    "--api-audiences",
    "--etcd-servers",
    "--requestheader-allowed-names",
)
ASK_SECONDS_MAX = 5


def write_assets(directory: Path, kubernetes_version: str) -> list[Path]:
    """Write the programs into `directory`, and a link to kubectl where there is one. Returns what was written."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for program in PROGRAMS:
        path = directory / program
        words = [sys.executable, "-m", "peavine.cmd.main", "envtest", "--run", program]
        if program == "kube-apiserver":
            words.append(f"--kubernetes-version={kubernetes_version}")
        path.unlink(missing_ok=True)
        path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        path.chmod(0o755)
        written.append(path)
    kubectl = shutil.which("kubectl")
    link = directory / "kubectl"
    if kubectl and Path(kubectl).resolve() != link.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(kubectl)
        written.append(link)
    return written


def run_program(program: str, argv: list[str]) -> int:
    """Be one of PROGRAMS until a signal; `argv` are envtest's flags."""
    return run_etcd(argv) if program == "etcd" else run_apiserver(argv)


# --- etcd ---------------------------------------------------------------------------------------
def etcd_flags() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="etcd", description="Peavine's stand-in for etcd, for tests only.")
    p.add_argument("--data-dir", default="default.etcd", help="directory that the API server keeps its state in")
    p.add_argument("--listen-client-urls", default="http://127.0.0.1:2379", help="where to answer /health")
    p.add_argument("--advertise-client-urls", default="", help="taken, not used")
    p.add_argument("--listen-peer-urls", default="", help="taken, not used: there are no peers")
    p.add_argument("--unsafe-no-fsync", default="", help="taken, not used", nargs="?")
    p.add_argument("--version", action="version", version="etcd Version: 3.6.0 (a stand-in by Peavine)")
    return p


def run_etcd(argv: list[str]) -> int:
    args, unknown = etcd_flags().parse_known_args(argv)
    _ignored("etcd", unknown)
    directory = str(Path(args.data_dir).resolve())

    def answer(path: str, query: dict[str, list[str]]) -> pages.Page:
        if path == "/health":
            return pages.Page(200, "application/json", b'{"health":"true","reason":""}')
        if path == DATA_DIR_PATH:
            return pages.text(200, directory)
        return pages.text(404, "404 page not found\n")

    async def serve() -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        servers = []
        for url in args.listen_client_urls.split(","):
            parts = urlsplit(url)
            if parts.scheme != "http":
                raise SystemExit(f"etcd: {url}: the stand-in listens on http:// only")
            servers.append(await pages.serve(parts.hostname or "127.0.0.1", parts.port or 2379, answer))
        await lifetimes.until_signal()
        for server in servers:
            server.close()

    return lifetimes.run(serve())


# --- kube-apiserver -----------------------------------------------------------------------------
def run_apiserver(argv: list[str]) -> int:
    from peavine.cmd import apiserver

    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--cert-dir", default="/var/run/kubernetes")
    if any(word in ("-h", "--help") for word in argv):
        print("  --cert-dir CERT-DIR   where apiserver.crt and apiserver.key are, or are made\n")
        apiserver.parser().print_help()
        return 0
    if "--version" in argv:
        print("Kubernetes v" + _last(argv, "--kubernetes-version", "1.37") + ".0")
        return 0
    own, rest = flags.parse_known_args(argv)
    parser = apiserver.parser()
    parser.allow_abbrev = False
    known, unknown = parser.parse_known_args(rest)
    _ignored("kube-apiserver", unknown)
    words = [word for word in _joined(rest) if word not in unknown]
    if known.etcd_servers and (directory := _stand_in_directory(known.etcd_servers.split(",")[0])):
        words = [w for w in words if not w.startswith("--etcd-")] + [f"--store=sqlite://{directory}/state.db"]
    if not known.tls_cert_file:
        certificate, key = _serving_certificate(Path(own.cert_dir), known.bind_address)
        words += [f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}"]
    return apiserver.main([*words, "--audit-log-path=-"])


def _last(argv: list[str], flag: str, default: str) -> str:
    return next((w.partition("=")[2] for w in reversed(argv) if w.startswith(flag + "=")), default)


def _joined(argv: list[str]) -> list[str]:
    """`--a=x --a=y` as `--a=x,y` for flags that take lists."""
    words: list[str] = []
    at: dict[str, int] = {}
    for word in argv:
        flag, equals, value = word.partition("=")
        if equals and flag in LISTS and flag in at:
            words[at[flag]] += "," + value
        else:
            at[flag] = len(words)
            words.append(word)
    return words


def _ignored(program: str, unknown: list[str]) -> None:
    for word in unknown:
        print(f"{program}: ignoring {word}: Peavine has no such flag", file=sys.stderr)


def _stand_in_directory(url: str) -> str:
    """The state's directory as the stand-in for etcd at `url` tells it; "" for a real etcd."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return ""
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 2379, timeout=ASK_SECONDS_MAX)
    try:
        connection.request("GET", DATA_DIR_PATH)
        answer = connection.getresponse()
        return answer.read().decode() if answer.status == 200 else ""
    except (OSError, http.client.HTTPException) as error:
        raise SystemExit(f"kube-apiserver: cannot reach etcd at {url}: {error}") from error
    finally:
        connection.close()


def _serving_certificate(directory: Path, address: str) -> tuple[Path, Path]:
    """`apiserver.crt` and `.key` of the directory, made there if missing; as upstream, nobody's CA vouches for them."""
    certificate, key = directory / "apiserver.crt", directory / "apiserver.key"
    if not certificate.exists():
        from peavine.cmd.pki import ensure_pki

        own = address if address not in ("0.0.0.0", "::", "") else "127.0.0.1"
        pki = ensure_pki(directory / "peavine", advertise_addresses=[own])
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pki.key("apiserver"), key)
        key.chmod(0o600)
        shutil.copyfile(pki.cert("apiserver"), certificate)
    return certificate, key
