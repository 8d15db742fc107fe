"""One API server with controllers, in memory, for all tests of the command line; and two kubectls to ask it."""

import importlib
import io
import os
import pkgutil
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import peavine.cli
from peavine.cli.main import main
from peavine.testing import Cluster

SDK = Path("/usr/lib/google-cloud-sdk/bin/kubectl.1.33")


@dataclass
class Said:
    code: int
    out: str
    err: str


class Ours:
    """Our kubectl, in this process."""

    def __init__(self, environment):
        self.environment = environment

    def __call__(self, line, stdin=""):
        before = os.environ.copy()
        streams = sys.stdin, sys.stdout, sys.stderr
        os.environ.update(self.environment)
        out, err = _Stream(), _Stream()
        sys.stdin, sys.stdout, sys.stderr = _Stream(stdin), out, err
        try:
            code = main(shlex.split(line))
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
            os.environ.clear()
            os.environ.update(before)
        return Said(code, out.text(), err.text())


class _Stream(io.TextIOWrapper):
    """Text and bytes in memory, as sys.stdout has both; survives `close`."""

    def __init__(self, text=""):
        super().__init__(io.BytesIO(text.encode()), encoding="utf-8", write_through=True)

    def close(self):
        pass

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode()


class Theirs:
    """The real kubectl."""

    def __init__(self, binary, environment):
        self.binary, self.environment = binary, environment

    def __call__(self, line, stdin=""):
        done = subprocess.run(
            [self.binary, *shlex.split(line)], input=stdin, capture_output=True, text=True, timeout=60,
            env={**os.environ, **self.environment},
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def cluster():
    # Imported before the server's thread starts: pytest rewrites modules of packages that bring a plugin, and CPython
    # 3.11 may not parse in two threads at once.
    for module in pkgutil.walk_packages(peavine.cli.__path__, "peavine.cli."):
        if module.name != "peavine.cli.topview.app":  # needs an extra
            importlib.import_module(module.name)
    with Cluster(nodes=0, scheduler=False) as running:
        yield running


@pytest.fixture(scope="session")
def environment(cluster, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    return {"KUBECONFIG": str(cluster.kubeconfig), "HOME": str(home), "KUBECACHEDIR": str(home / "cache")}


@pytest.fixture
def ours(environment):
    return Ours(environment)


@pytest.fixture
def theirs(environment, tmp_path):
    binary = str(SDK) if SDK.exists() else shutil.which("kubectl")
    if not binary:
        pytest.skip("the real kubectl is not on this machine: nothing to compare with")
    link = tmp_path / "kubectl"  # its messages carry the name that it was called by
    link.symlink_to(binary)
    return Theirs(str(link), environment)
