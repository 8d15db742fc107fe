"""JSON bodies, decoded by whichever parser costs least.

orjson is quick once imported, but its import (it looks for dataclasses, uuid and more) takes longer than the standard
library needs for a whole small answer: a command that prints five pods must not pay for it.
"""

from __future__ import annotations

import sys

SMALL_BYTES_MAX = 256 * 1024


def loads(data: bytes):  # type: ignore[no-untyped-def]
    """The value of a JSON text. Raises ValueError."""
    if len(data) <= SMALL_BYTES_MAX and "orjson" not in sys.modules:
        import json

        return json.loads(data)
    import orjson

    return orjson.loads(data)


def dumps(value: object) -> bytes:
    if "orjson" not in sys.modules:
        import json

        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    import orjson

    return orjson.dumps(value)
