"""exec, attach, logs, cp and port-forward through a real kubelet, next to the real kubectl where there is one."""

import http.client
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.cli.conftest import SDK

pytestmark = [pytest.mark.root, pytest.mark.slow]
OURS = [sys.executable, "-c", "import sys; from peavine.cmd.kubectl import main; sys.exit(main(sys.argv[1:]))"]
OVERRIDES = (
    '--overrides={"spec":{"nodeName":"node-under-test","automountServiceAccountToken":false}}'  # no scheduler here
)
SCRIPT = "echo one; echo two >&2; mkdir -p /www; echo served > /www/index.html; exec busybox httpd -f -p 80 -h /www"


@pytest.fixture(scope="module")
def pod():
    from tests.kubelet.node import IMAGE, TestNode, usable

    why = usable()
    if why:
        pytest.skip(why)

    directory = Path(tempfile.mkdtemp(prefix="pvc-", dir="/tmp"))
    node = TestNode(directory, random.randrange(150, 210))
    try:
        node.start()
        environment = {
            **os.environ,
            "KUBECONFIG": str(directory / "admin.kubeconfig"),
            "KUBECACHEDIR": str(directory / "kubecache"),
        }
        made = run(
            environment,
            f"run web --image={IMAGE} --image-pull-policy=IfNotPresent --command",
            OVERRIDES,
            *["--", "busybox", "sh", "-c"],
            SCRIPT,
        )
        assert made.returncode == 0, made.stderr
        ready = run(environment, "wait pod/web --for=condition=Ready --timeout=60s")
        assert ready.returncode == 0, ready.stderr + run(environment, "describe pod web").stdout
        yield environment
    finally:
        node.stop()
        shutil.rmtree(directory, ignore_errors=True)


def run(environment, line, *more, stdin="", command=OURS):
    return subprocess.run(
        [*command, *line.split(), *more], input=stdin, capture_output=True, text=True, env=environment, timeout=90
    )


def both(environment, line, *more, stdin=""):
    ours = run(environment, line, *more, stdin=stdin)
    if SDK.exists():
        theirs = run(environment, line, *more, stdin=stdin, command=[str(SDK)])
        assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr), line
    return ours


def test_exec_carries_streams_and_the_exit_code(pod):
    assert both(pod, "exec web -- busybox echo hello").stdout == "hello\n"
    failed = both(pod, "exec web -- busybox sh -c", "echo out; echo err >&2; exit 7")
    assert (failed.returncode, failed.stdout) == (7, "out\n")
    assert "err\n" in failed.stderr and "command terminated with exit code 7" in failed.stderr
    big = "x" * 200_000
    assert both(pod, "exec -i web -- busybox cat", stdin=big).stdout == big
    assert both(pod, "exec web -c nope -- ls").returncode == 1
    assert run(pod, "exec web -- nonexistent").returncode != 0


def test_logs_in_their_forms(pod):
    assert sorted(both(pod, "logs web").stdout.splitlines()) == ["one", "two"]
    assert both(pod, "logs web --tail=1").stdout.count("\n") == 1
    assert run(pod, "logs pod/web --prefix").stdout.startswith("[pod/web/web] ")
    assert both(pod, "logs -l run=web --tail=0").stdout == ""
    assert both(pod, "logs web -c nope").returncode == 1


def test_files_are_copied_both_ways(pod, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("content")
    pushed = run(pod, f"cp {tmp_path}/there web:/tmp/copied")
    if "tar" in pushed.stderr:
        pytest.skip("the image has no tar")
    assert pushed.returncode == 0, pushed.stderr
    assert run(pod, "exec web -- busybox cat /tmp/copied/file").stdout == "content"
    assert run(pod, f"cp web:/tmp/copied {tmp_path}/back").returncode == 0
    assert (tmp_path / "back" / "file").read_text() == "content"


def test_ports_are_forwarded(pod):
    process = subprocess.Popen(
        [*OURS, "port-forward", "pod/web", ":80", "--address", "127.0.0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=pod,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("Forwarding from 127.0.0.1:") and line.endswith("-> 80\n"), line + process.stdout.read(
            2000
        )
        port = int(line.split(":")[1].split()[0])
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"served\n"
            connection.close()
    finally:
        process.terminate()
        process.wait(10)
    started = time.monotonic()
    assert run(pod, "port-forward web nope:nope").returncode == 1 and time.monotonic() - started < 10


def test_a_pod_can_be_run_watched_and_removed(pod):
    from tests.kubelet.node import IMAGE

    said = run(
        pod,
        f"run once --image={IMAGE} --image-pull-policy=IfNotPresent --restart=Never --rm -i --quiet --command",
        OVERRIDES,
        *["--", "busybox", "cat"],
        stdin="typed\n",
    )
    assert said.returncode == 0 and "typed\n" in said.stdout and 'pod "once" deleted' in said.stdout, said
