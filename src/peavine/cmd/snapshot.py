"""Save the state of the cluster on this machine, running or not, in one file for `peavine restore`."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from peavine import __version__
from peavine.cmd.cluster import Cluster, default_data_dir

FORMAT = "peavine snapshot 1"
ABOUT = "snapshot.json"
# What a cluster is made from again, below the data directory: the store comes last.
PARTS = ("cluster.json", "pki")
STORE = "store/state.db"


def flags() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="peavine snapshot",
        description=f"{__doc__} The file holds all objects, Secrets among them, and all keys: keep it as you keep "
        "those. What pods wrote (volumes) and images are not in it.",
    )
    options.add_argument("--data-dir", default=default_data_dir(), help="data directory (default: %(default)s)")
    options.add_argument("--output", required=True, metavar="FILE", help="where to write it; must not exist")
    return options


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    directory = Path(args.data_dir).absolute()
    try:
        cluster = Cluster.load(directory)
        if cluster is None:
            raise ValueError(f"there is no cluster in {directory}")
        if cluster.joined:
            raise ValueError(f"this machine has joined {cluster.joined}: its state is there")
        if cluster.store.startswith("etcd"):
            raise ValueError(
                f"the state is in {cluster.store}: save it with `etcdctl snapshot save`, and {directory}/pki"
            )
        said = save(directory, Path(args.output))
    except (OSError, ValueError) as error:
        print(f"peavine snapshot: {error}", file=sys.stderr)
        return 1
    print(said)
    return 0


def save(directory: Path, output: Path) -> str:
    """Write the file; returns what there is to say of it. Raises OSError."""
    from peavine.store import backup

    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with (
            os.fdopen(handle, "wb") as file,
            tempfile.TemporaryDirectory(dir=directory) as drafts,
            tarfile.open(fileobj=file, mode="w:gz") as archive,
        ):
            copied = backup.copy(directory / STORE, Path(drafts) / "state.db")
            about = {"format": FORMAT, "version": __version__, "time": time.time(), **copied._asdict()}
            _add(archive, ABOUT, json.dumps(about).encode())
            for part in PARTS:
                archive.add(directory / part, arcname=part)
            archive.add(Path(drafts) / "state.db", arcname=STORE)
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    return f"Saved {copied.objects} objects at revision {copied.revision} in {output}."


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    archive.addfile(entry, io.BytesIO(content))
