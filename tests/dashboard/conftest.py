from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.dashboard.browser import PROGRAM
from tests.dashboard.stage import Stage


@pytest.fixture(scope="package")
def stage() -> Iterator[Stage]:
    """The one cluster, dashboard and browser of all tests of the page."""
    if PROGRAM is None:
        pytest.skip("chromium is not installed: the page is not tested in a browser")
    stage = Stage()
    stage.start()
    try:
        yield stage
    finally:
        stage.stop()
