"""`kubectl get pods`: ours and the Go kubectl against one server, the first run (no discovery cache) and the next ones.

    python bench/kubectl.py [--runs 15] [--kubectl /path/to/kubectl]

Prints the median wall time of each in milliseconds, and ours as a multiple of the other's.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peavine
from peavine.testing import Cluster

PODS = """
apiVersion: v1
kind: Pod
metadata: {name: pod-%d}
spec: {containers: [{name: c, image: x}]}
"""


def run(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--kubectl", default=shutil.which("kubectl") or "")
    options = parser.parse_args()
    # As an installation does; PYTHONDONTWRITEBYTECODE would have every start compile its modules again.
    compileall.compile_dir(str(Path(peavine.__file__).parent), quiet=2)
    ours = [sys.executable, "-c", "from peavine.cmd.kubectl import main; main()"]
    commands = {"peavine": ours} | ({"go": [options.kubectl]} if options.kubectl else {})
    with Cluster(nodes=0, scheduler=False) as cluster, tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
        manifest = "---".join(PODS % number for number in range(10))
        create = [*ours, "apply", "-f", "-"]
        subprocess.run(create, input=manifest, text=True, check=True, stdout=subprocess.DEVNULL, env=environment)
        for title, fresh in (("first run", True), ("next runs", False)):
            taken: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(options.runs):
                for name, command in commands.items():
                    where = os.path.join(cache, name)
                    if fresh:
                        shutil.rmtree(where, ignore_errors=True)
                    taken[name].append(run([*command, "get", "pods", "--cache-dir", where], environment))
            medians = {name: statistics.median(times) for name, times in taken.items()}
            line = ", ".join(f"{name} {median:.0f} ms" for name, median in medians.items())
            ratio = f": {medians['peavine'] / medians['go']:.2f} times" if "go" in medians else ""
            print(f"{title}: {line}{ratio}")


if __name__ == "__main__":
    main()
