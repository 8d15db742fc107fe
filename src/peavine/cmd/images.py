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


async def _run(args: argparse.Namespace) -> int:
    endpoint = args.container_runtime_endpoint or str(Layout(Path(args.data_dir)).socket)
    if args.verb == "import":
        for path in args.archives:
            for name in await transfer.import_archive(endpoint, path):
                print(name)
        return 0
    if args.verb == "build-example":
        from peavine.kubelet.images import archive, builtin

        for recipe in (builtin.pause(), builtin.busybox()):
            data = archive.build(recipe)
            if args.output:
                target = Path(args.output) / (recipe.name.rpartition("/")[2].replace(":", "-") + ".tar")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                print(target)
            else:
                await transfer.import_bytes(endpoint, data)
                print(recipe.name)
        return 0
    client = CriClient(endpoint)
    try:
        if args.verb in ("list", "ls"):
            rows = []
            for image in await client.list_images():
                for tag in image.get("repo_tags") or ["<none>:<none>"]:
                    rows.append((tag, image["id"].removeprefix("sha256:")[:13], _size(image.get("size", 0))))
            width = max([len(tag) for tag, _, _ in rows] + [5])
            print(f"{'IMAGE':{width}}  {'ID':13}  SIZE")
            for tag, identity, size in sorted(rows):
                print(f"{tag:{width}}  {identity}  {size}")
        for image_name in getattr(args, "images", []):
            if args.verb == "pull":
                auth = {"username": args.username, "password": args.password} if args.username else None
                print(await client.pull_image(image_name, auth))
            else:
                await client.remove_image(image_name)
    finally:
        await client.close()
    return 0


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    try:
        return asyncio.run(_run(args))
    except (RpcError, transfer.TransferError, OSError) as error:
        print(f"peavine images: {error}", file=sys.stderr)
        return 1
