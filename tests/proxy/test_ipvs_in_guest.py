"""The ipvs mode's part of the conformance suite, with packets, on a kernel that has IPVS."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.linux import guest

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1000)]
ROOT = Path(__file__).parents[2]


def test_the_ipvs_mode_passes_the_conformance_suite(tmp_path: Path) -> None:
    try:
        kernel = guest.kernel(os.environ.get("PEAVINE_GUEST_KERNEL", ""))
    except guest.GuestUnavailable as error:
        pytest.skip(f"mode ipvs in a guest: {error}")
    suite = ["tests/proxy/test_conformance.py", "-k", os.environ.get("PEAVINE_GUEST_TESTS", "ipvs or sctp")]
    pytest_ = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rs", "--color=no", "--tb=short"]
    status, output = guest.run(kernel, [*pytest_, *suite], ROOT, tmp_path)
    print(output)
    assert status == 0, output[-8000:]
    skipped = [line for line in output.splitlines() if line.startswith("SKIPPED")]
    assert all("mode userspace" in line for line in skipped), skipped
