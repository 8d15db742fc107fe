"""The page that is shipped is what its sources build to, and all of it is in the package."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from peavine.dashboard.pages import STATIC

FRONTEND = Path(__file__).parents[2] / "frontend"


def test_the_page_names_only_files_that_are_shipped_and_loads_nothing_from_elsewhere():
    page = (STATIC / "index.html").read_text()
    assert "://" not in page
    for name in page.split('"./')[1:]:
        assert (STATIC / name.partition('"')[0]).is_file()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("npm") is None or not (FRONTEND / "node_modules" / "vite").exists(),
    reason="the page's tools are not installed: `npm ci` in frontend/ does",
)
def test_building_the_sources_again_gives_the_same_bytes(tmp_path):
    subprocess.run(["npm", "run", "build", "--", "--outDir", tmp_path], cwd=FRONTEND, check=True, capture_output=True)
    built = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    shipped = {file.name: file.read_bytes() for file in STATIC.iterdir() if file.is_file()}
    assert built.keys() == shipped.keys()
    assert [name for name in built if built[name] != shipped[name]] == []
