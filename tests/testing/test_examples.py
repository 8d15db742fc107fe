"""The suites in examples/testing pass: they are what the documents promise."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "testing"


@pytest.mark.slow
@pytest.mark.parametrize("suite", sorted(p.name for p in EXAMPLES.glob("test_*.py")))
def test_an_example_suite_passes(suite, tmp_path):
    if "kopf" in suite:
        pytest.importorskip("kopf")
    if "kr8s" in suite:
        pytest.importorskip("kr8s")
    if "lightkube" in suite:
        pytest.importorskip("lightkube")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        str(EXAMPLES / suite),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
