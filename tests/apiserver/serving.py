"""A server for tests: as a process on its own data directory, or inside the test's event loop."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

START_SECONDS_MAX = 60.0


class ServerProcess:
    """`with ServerProcess(tmp_path) as server`: `peavine apiserver` on a free port, ended by SIGTERM."""

    def __init__(self, directory: Path, flags: list[str] | None = None) -> None:
        self.directory, self.flags, self.port = directory, flags or [], 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ServerProcess:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "peavine.cmd.main", "apiserver", "--data-dir", str(self.directory)]
        command += ["--bind-address", "127.0.0.1", "--secure-port", str(self.port), *self.flags]
        with open(self.directory / "apiserver.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"}
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if self.kubeconfig.exists():
                try:
                    if self.get("/readyz") == b"ok":
                        return self
                except OSError:
                    pass
            time.sleep(0.05)
        self.__exit__()
        raise AssertionError("the server did not start:\n" + self.log()[-3000:])

    def __exit__(self, *_: Any) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    @property
    def kubeconfig(self) -> Path:
        return self.directory / "admin.kubeconfig"

    def log(self) -> str:
        return (self.directory / "apiserver.log").read_text(errors="replace")

    def client_files(self) -> tuple[str, str, str]:
        """CA, certificate and key of the administrator, as files."""
        text = self.kubeconfig.read_text()
        paths = []
        for field, name in (
            ("certificate-authority-data", "admin-ca.crt"),
            ("client-certificate-data", "admin.crt"),
            ("client-key-data", "admin.key"),
        ):
            match = re.search(field + r'"?: "?([A-Za-z0-9+/=]+)', text)
            assert match is not None
            path = self.directory / name
            path.write_bytes(base64.b64decode(match[1]))
            paths.append(str(path))
        return paths[0], paths[1], paths[2]

    def tls(self) -> ssl.SSLContext:
        ca, cert, key = self.client_files()
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(cert, key)
        return context

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"https://127.0.0.1:{self.port}{path}", context=self.tls(), timeout=5) as answer:
            return answer.read()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))
