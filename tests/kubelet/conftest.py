from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubelet.node import TestNode, usable


@pytest.fixture(scope="session")
def node() -> Iterator[TestNode]:
    """One node for all tests of the session: containerd, API server, kubelet."""
    why = usable()
    if why:
        pytest.skip(why)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    # Short: the paths of Unix sockets have room for 107 characters.
    directory = Path(tempfile.mkdtemp(prefix="pvk-", dir="/tmp"))
    found = TestNode(directory, 220 + int(worker) % 30)
    try:
        found.start()
        yield found
    finally:
        found.stop()
