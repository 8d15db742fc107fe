"""JSON Patch (RFC 6902), with the leniencies and limits of upstream's API server.

Leniencies: negative array indices count from the end; what stands before the first `/` of a path is ignored;
`test` against null passes where the member is missing.
"""

from __future__ import annotations

from typing import Any

import orjson

from peavine.machinery.errors import ApiError, bad_request, too_large

operations_max = 10_000
copied_bytes_max = 3 * 1024 * 1024

_REJECTED = "the server rejected our request due to an error in our request"


class _Inapplicable(Exception):
    """An operation that does not apply; the client only learns that one did not, as upstream."""


def apply_json_patch(doc: Any, ops: Any) -> Any:
    """`doc` with the operations applied in order, all or none; `doc` and `ops` stay as they were.

    The result shares unchanged parts with both. Raises ApiError: 400 when `ops` is not a list of operations, 413 over
    `operations_max`, 422 (upstream's bare message, without the reason) when an operation does not apply.
    """
    if not isinstance(ops, list):
        kind = {dict: "object", str: "string", bool: "bool"}.get(type(ops), "number")
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type []handlers.jsonPatchOp"
        )
    if len(ops) > operations_max:
        raise too_large(f"The allowed maximum operations in a JSON patch is {operations_max}, got {len(ops)}")
    for op in ops:
        if not isinstance(op, dict):
            raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type handlers.jsonPatchOp")
    patch = _Patch(doc)
    try:
        for op in ops:
            patch.run(op)
    except _Inapplicable as error:
        raise ApiError(422, "Invalid", _REJECTED, details={}) from error
    return patch.root


class _Patch:
    """A document under change. Containers are copied the first time they are written to."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.copied_bytes = 0
        self._own: dict[int, Any] = {}  # id -> container that only this patch holds

    def run(self, op: dict[str, Any]) -> None:
        kind = op.get("op")
        if kind == "add":
            self._add(op, op.get("value"))
        elif kind == "replace":
            container, key = self._find(op, "path")
            _get(container, key)
            _set(container, key, op.get("value"))
        elif kind == "remove":
            self._remove(op, "path")
        elif kind == "test":
            self._test(op)
        elif kind == "move":
            self._add(op, self._remove(op, "from"))
        elif kind == "copy":
            self._copy(op)
        else:
            raise _Inapplicable(f"Unexpected kind: {kind}")

    def _add(self, op: dict[str, Any], value: Any) -> None:
        container, key = self._find(op, "path")
        if isinstance(container, dict):
            container[key] = value
        elif key == "-":
            container.append(value)
        else:
            container.insert(_index(key, len(container) + 1), value)

    def _remove(self, op: dict[str, Any], member: str) -> Any:
        container, key = self._find(op, member)
        if isinstance(container, list):
            return container.pop(_index(key, len(container)))
        if key not in container:
            raise _Inapplicable(f"Unable to remove nonexistent key: {key}")
        return container.pop(key)

    def _copy(self, op: dict[str, Any]) -> None:
        container, key = self._find(op, "from")
        value = _get(container, key)
        self.copied_bytes += len(orjson.dumps(value))
        if self.copied_bytes > copied_bytes_max:
            raise _Inapplicable(f"copies grow the document by {self.copied_bytes} bytes, over {copied_bytes_max}")
        # Both places now hold the same containers: neither may be written to in place any more.
        self._own.clear()
        self._add(op, value)

    def _test(self, op: dict[str, Any]) -> None:
        container, key = self._find(op, "path")
        try:
            found = _get(container, key)
        except _Inapplicable:
            if isinstance(container, list):
                raise
            found = None
        if not same(found, op.get("value")):
            raise _Inapplicable(f"testing path {op.get('path')} failed")

    def _find(self, op: dict[str, Any], member: str) -> tuple[Any, str]:
        """The writable container that the path ends in, and the last key."""
        path = op.get(member)
        if not isinstance(path, str):
            raise _Inapplicable(f"{member} is missing")
        keys = path.split("/")[1:]
        if not keys:
            raise _Inapplicable("the whole document cannot be the target")
        node = self.root = self._owned(self.root)
        for key in keys[:-1]:
            key = _unescape(key)
            child = _get(node, key)
            if not isinstance(child, (dict, list)):
                raise _Inapplicable(f"{key} is no container")
            own = self._owned(child)
            if own is not child:
                _set(node, key, own)
            node = own
        if not isinstance(node, (dict, list)):
            raise _Inapplicable("no container")
        return node, _unescape(keys[-1])

    def _owned(self, node: Any) -> Any:
        if id(node) in self._own or not isinstance(node, (dict, list)):
            return node
        copy = node.copy()
        self._own[id(copy)] = copy
        return copy


def same(a: Any, b: Any) -> bool:
    """Equal as JSON: other than in Python, true is not 1."""
    if isinstance(a, dict):
        return isinstance(b, dict) and len(a) == len(b) and all(k in b and same(v, b[k]) for k, v in a.items())
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _unescape(key: str) -> str:
    return key.replace("~1", "/").replace("~0", "~") if "~" in key else key


def _index(key: str, size: int) -> int:
    """The place in a list of `size` places that `key` means."""
    digits = key[1:] if key[:1] in "+-" else key
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
        raise _Inapplicable(f"{key} is no index")
    index = int(key)
    if index < 0:
        index += size
    if not 0 <= index < size:
        raise _Inapplicable(f"Unable to access invalid index: {key}")
    return index


def _get(container: Any, key: str) -> Any:
    if isinstance(container, list):
        return container[_index(key, len(container))]
    if key not in container:
        raise _Inapplicable(f"unable to get nonexistent key: {key}")
    return container[key]


def _set(container: Any, key: str, value: Any) -> None:
    if isinstance(container, list):
        container[_index(key, len(container))] = value
    else:
        container[key] = value
