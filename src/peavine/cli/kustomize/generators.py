"""ConfigMaps and Secrets from files, literals and env files; and the hash of their content that ends their names."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.kustomize.files import Loader
from peavine.cli.kustomize.resource import Resource

Object = dict[str, Any]
_LINE_CHARACTERS = 70
_HASH_LETTERS = str.maketrans("013ae", "ghkmt")


def generate(kind: str, args: Object, options: Object, loader: Loader) -> Resource:
    """The resource of one `configMapGenerator` or `secretGenerator` entry."""
    if not args.get("name"):
        raise CliError(f"trouble configuring builtin {kind}Generator: kind: {kind}; missing metadata.name")
    meta: Object = {"name": args["name"]}
    if args.get("namespace"):
        meta["namespace"] = args["namespace"]
    own = args.get("options") or {}
    for part in ("labels", "annotations"):
        merged = {**(options.get(part) or {}), **(own.get(part) or {})}
        if merged:
            meta[part] = {key: str(value) for key, value in merged.items()}
    obj: Object = {"apiVersion": "v1", "kind": kind, "metadata": meta}
    if kind == "Secret":
        obj["type"] = args.get("type") or "Opaque"
    for key, value in _pairs(args, loader):
        _put(obj, key, value)
    if options.get("immutable") or own.get("immutable"):
        obj["immutable"] = True
    resource = Resource(obj, "generator")
    resource.behavior = args.get("behavior") or ""
    resource.hashed = not (options.get("disableNameSuffixHash") or own.get("disableNameSuffixHash"))
    return resource


def _put(obj: Object, key: str, value: bytes) -> None:
    if any(key in (obj.get(part) or {}) for part in ("data", "binaryData")):
        raise CliError(f"configmap {obj['metadata']['name']} illegally repeats the key `{key}`")
    if obj["kind"] == "Secret":
        obj.setdefault("data", {})[key] = _wrapped(value)
        return
    try:
        obj.setdefault("data", {})[key] = value.decode()
    except UnicodeDecodeError:
        obj.setdefault("binaryData", {})[key] = _wrapped(value)
        if not obj["data"]:
            del obj["data"]


def _wrapped(value: bytes) -> str:
    """Base64; in lines where it is longer than one."""
    text = base64.b64encode(value).decode()
    if len(text) <= _LINE_CHARACTERS:
        return text
    return "".join(text[at : at + _LINE_CHARACTERS] + "\n" for at in range(0, len(text), _LINE_CHARACTERS))


def _pairs(args: Object, loader: Loader) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    envs = [*(args.get("envs") or ()), *([args["env"]] if args.get("env") else ())]
    for path in envs:
        found += _env_file(loader.read(path).decode("utf-8-sig"), path)
    for literal in args.get("literals") or ():
        key, equals, value = str(literal).partition("=")
        if not equals or not key:
            raise CliError(f"invalid literal source {literal}, expected key=value")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found.append((key, value.encode()))
    for source in args.get("files") or ():
        key, equals, path = str(source).partition("=")
        if not equals:
            key, path = key.rpartition("/")[2], key
        if not key or not path:
            raise CliError(f"key name or file path is missing in {source!r}")
        found.append((key, loader.read(path)))
    return found


def _env_file(text: str, path: str) -> list[tuple[str, bytes]]:
    found = []
    for line in text.splitlines():
        line = line.lstrip()
        if not line or line.startswith("#"):
            continue
        key, _, value = line.partition("=")
        if " " in key.strip() or not key:
            raise CliError(f'"{key}" is not a valid key name in {path}')
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found.append((key, value.encode()))
    return found


def name_hash(obj: Object, name: str = "") -> str:
    """Ten characters that change with the content; `create --append-hash` counts the name too."""
    kind = obj.get("kind", "")
    if kind == "ConfigMap":
        content: Object = {"kind": kind, "name": name, "data": obj.get("data") or ""}
        if obj.get("binaryData"):
            content["binaryData"] = obj["binaryData"]
    elif kind == "Secret":
        content = {"kind": kind, "type": obj.get("type", ""), "name": name, "data": obj.get("data") or ""}
        if obj.get("stringData"):
            content["stringData"] = obj["stringData"]
    else:
        content = obj
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":  # as Go's encoder writes them
        text = text.replace(character, f"\\u{ord(character):04x}")
    return hashlib.sha256(text.encode()).hexdigest()[:10].translate(_HASH_LETTERS)
