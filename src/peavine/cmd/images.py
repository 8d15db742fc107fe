"""Container images of a node: import, list, pull, rm, build-example."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from peavine.cmd.cluster import default_data_dir
from peavine.kubelet.containerd import Layout
from peavine.kubelet.cri.client import CriClient
from peavine.kubelet.images import transfer
from peavine.kubelet.rpc import RpcError


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="peavine images", description=__doc__)
    top.add_argument("--data-dir", default=default_data_dir(), help="data directory of the node")
    top.add_argument("--node", default="", help="one node of a cluster of several (default: all of them)")
    top.add_argument("--container-runtime-endpoint", default="", help="runtime socket, if not the data directory's")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb = verbs.add_parser("import", help="import OCI or docker archives (tar)")
    verb.add_argument("archives", nargs="+", metavar="FILE")
    verbs.add_parser("list", help="list the images of the node", aliases=["ls"])
    verb = verbs.add_parser("pull", help="pull images from their registries")
    verb.add_argument("images", nargs="+", metavar="IMAGE")
    verb.add_argument("--username", default="")
    verb.add_argument("--password", default="")
    verb = verbs.add_parser("rm", help="remove images")
    verb.add_argument("images", nargs="+", metavar="IMAGE")
    verb = verbs.add_parser(
        "build-example", help="make the pause and busybox images from static binaries and import them"
    )
    verb.add_argument("--output", default="", metavar="DIR", help="write the archives there instead of importing them")
    for verb in dict.fromkeys(verbs.choices.values()):  # after the verb, too
        for flag in ("--data-dir", "--container-runtime-endpoint"):
            verb.add_argument(flag, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return top


async def ensure_builtin_images(endpoint: str, *, example: bool = True) -> list[str]:
    """Make and import the pause image, and the example's, where they are missing. Returns what was imported."""
    from peavine.kubelet.images import archive, builtin

    client = CriClient(endpoint)
    try:
        imported = []
        for make, name in ((builtin.pause, builtin.PAUSE_IMAGE), (builtin.busybox, builtin.EXAMPLE_IMAGE)):
            if (example or name == builtin.PAUSE_IMAGE) and await client.image_status(name) is None:
                imported += await transfer.import_bytes(endpoint, archive.build(make()))
        return imported
    finally:
        await client.close()


def _size(count: int) -> str:
    return f"{count / 1e6:.1f}MB" if count >= 1e6 else f"{count / 1e3:.1f}kB"


def endpoints(args: argparse.Namespace) -> dict[str, str]:
    """Node -> runtime socket: of the one that is named, or of every host of the data directory's cluster. Raises
    OSError for a node that is not there."""
    if args.container_runtime_endpoint:
        return {"": args.container_runtime_endpoint}
    from peavine.cmd.cluster import Cluster

    cluster = Cluster.load(args.data_dir)
    if cluster is None:
        found = {"": str(Layout(Path(args.data_dir)).socket)}
    else:
        found = {host.node: str(Layout(host.directory).socket) for host in cluster.hosts}
    if args.node:
        if args.node not in found:
            raise OSError(f"no node {args.node!r} here: {', '.join(found)}")
        return {args.node: found[args.node]}
    return found


async def _run(args: argparse.Namespace) -> int:
    if args.verb == "build-example" and args.output:
        _write_examples(Path(args.output))
        return 0
    sockets = endpoints(args)
    rows: list[tuple[str, str, str, str]] = []
    for node, endpoint in sockets.items():
        for line in await _on_node(args, endpoint):
            print(f"{node}: {line}" if len(sockets) > 1 else line)
        if args.verb in ("list", "ls"):
            rows += [(*row, node) for row in await _rows(endpoint)]
    if args.verb in ("list", "ls"):
        width = max([len(row[0]) for row in rows] + [5])
        several = len(sockets) > 1
        print(f"{'IMAGE':{width}}  {'ID':13}  {'SIZE':8}  NODE" if several else f"{'IMAGE':{width}}  {'ID':13}  SIZE")
        for tag, identity, size, node in sorted(rows):
            print(f"{tag:{width}}  {identity}  {size:8}  {node}" if several else f"{tag:{width}}  {identity}  {size}")
    return 0


def _write_examples(directory: Path) -> None:
    from peavine.kubelet.images import archive, builtin

    directory.mkdir(parents=True, exist_ok=True)
    for recipe in (builtin.pause(), builtin.busybox()):
        target = directory / (recipe.name.rpartition("/")[2].replace(":", "-") + ".tar")
        target.write_bytes(archive.build(recipe))
        print(target)


async def _rows(endpoint: str) -> list[tuple[str, str, str]]:
    """(name, id, size) of the images of one node."""
    client = CriClient(endpoint)
    try:
        return [
            (tag, image["id"].removeprefix("sha256:")[:13], _size(image.get("size", 0)))
            for image in await client.list_images()
            for tag in image.get("repo_tags") or ["<none>:<none>"]
        ]
    finally:
        await client.close()


async def _on_node(args: argparse.Namespace, endpoint: str) -> list[str]:
    """Import, make, pull or remove on one node; what is to be said about it."""
    if args.verb == "import":
        return [name for path in args.archives for name in await transfer.import_archive(endpoint, path)]
    if args.verb == "build-example":
        from peavine.kubelet.images import archive, builtin

        recipes = (builtin.pause(), builtin.busybox())
        for recipe in recipes:
            await transfer.import_bytes(endpoint, archive.build(recipe))
        return [recipe.name for recipe in recipes]
    said: list[str] = []
    client = CriClient(endpoint)
    try:
        for image in getattr(args, "images", []):
            if args.verb == "pull":
                auth = {"username": args.username, "password": args.password} if args.username else None
                said.append(await client.pull_image(image, auth))
            else:
                await client.remove_image(image)
    finally:
        await client.close()
    return said


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    try:
        return asyncio.run(_run(args))
    except (RpcError, transfer.TransferError, OSError, ValueError) as error:
        print(f"peavine images: {error}", file=sys.stderr)
        return 1
