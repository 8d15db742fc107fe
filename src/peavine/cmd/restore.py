"""Make a data directory from a file of `peavine snapshot`; `peavine up` then starts the cluster as it was."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import IO

from peavine.cmd.cluster import Cluster, default_data_dir
from peavine.cmd.snapshot import ABOUT, FORMAT, PARTS, STORE

ABOUT_BYTES_MAX = 4096


def flags() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="peavine restore",
        description=f"{__doc__} Objects keep their names and UIDs; resource versions go on far above those that were "
        "given out before, so that clients list again. Pods' volumes and images come from elsewhere.",
    )
    options.add_argument("file", help="the file")
    options.add_argument("--data-dir", default=default_data_dir(), help="data directory (default: %(default)s)")
    options.add_argument("--node-ip", default="", help="this machine's address, where it is not that of the snapshot")
    return options


def main(argv: list[str]) -> int:
    args = flags().parse_args(argv)
    directory = Path(args.data_dir).absolute()
    try:
        said = restore(Path(args.file), directory, args.node_ip)
    except (OSError, ValueError, tarfile.TarError) as error:
        print(f"peavine restore: {error}", file=sys.stderr)
        return 1
    print(f"{said} `peavine up --data-dir {directory}` starts it.")
    return 0


def restore(file: Path, directory: Path, node_ip: str = "") -> str:
    """Returns what there is to say. Raises ValueError for another kind of file, or where a cluster is already."""
    import apsw

    from peavine.store import backup

    if Cluster.load(directory) is not None:
        raise ValueError(f"there is a cluster in {directory} already: `peavine down --purge` removes it")
    with tarfile.open(file, "r:gz") as archive:
        _check(archive, file)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = directory / "restoring"
        shutil.rmtree(draft, ignore_errors=True)
        for entry in archive:
            if entry.name == STORE or entry.name.partition("/")[0] in PARTS:
                archive.extract(entry, draft, filter="data")
    try:
        revived = backup.revive(draft / STORE)
    except apsw.Error as error:
        raise ValueError(f"{file}: its store cannot be read: {error}") from error
    facts = Cluster.load(draft)
    if facts is None:
        raise ValueError(f"{file}: it lacks cluster.json")
    for part in ("pki", Path(STORE).parent):
        shutil.rmtree(directory / part, ignore_errors=True)
        shutil.move(draft / part, directory / part)
    shutil.rmtree(draft)
    # Last of all: now it is a cluster.
    dataclasses.replace(facts, data_dir=str(directory), node_ip=node_ip or facts.node_ip).save()
    return f"Restored {revived.objects} objects; revisions go on from {revived.revision}."


def _check(archive: tarfile.TarFile, file: Path) -> None:
    first = archive.next()
    content: IO[bytes] | None = None
    if first is not None and first.name == ABOUT and first.size <= ABOUT_BYTES_MAX:
        content = archive.extractfile(first)
    about = json.loads(content.read()) if content else {}
    if about.get("format") != FORMAT:
        raise ValueError(f"{file} is not a snapshot of a format that is known here")
