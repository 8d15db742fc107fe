"""How upstream's printers write common things into the cells of a Table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from peavine.api.kind import AGE, NAME, Column
from peavine.machinery.tables import age as age

Object = dict[str, Any]
NONE = "<none>"
UNKNOWN = "<unknown>"

CONTAINERS = Column("Containers", description="Names of each container in the template.", priority=1)
IMAGES = Column("Images", description="Images referenced by each container in the template.", priority=1)
__all__ = ["AGE", "CONTAINERS", "IMAGES", "NAME", "NONE", "UNKNOWN", "Column"]


def name(obj: Object) -> str:
    return (obj.get("metadata") or {}).get("name") or ""


def object_age(obj: Object) -> str:
    return age((obj.get("metadata") or {}).get("creationTimestamp"))


def containers_and_images(template: Object | None) -> list[str]:
    """The two wide cells of everything that has a pod template."""
    found = ((template or {}).get("spec") or {}).get("containers") or []
    return [",".join(c.get("name") or "" for c in found), ",".join(c.get("image") or "" for c in found)]


def labels(pairs: Mapping[str, str] | None) -> str:
    """`a=b,c=d` by key; `<none>` for none."""
    return ",".join(f"{k}={v}" for k, v in sorted((pairs or {}).items())) or NONE


def selector(label_selector: Object | None) -> str:
    """A LabelSelector as text: `app=web,tier in (a,b),!old`; `<none>` where it selects nothing or everything."""
    from peavine.machinery.selectors import SelectorError, selector_of

    if not label_selector:
        return NONE
    try:
        return str(selector_of(label_selector)) or NONE
    except SelectorError:
        return "<error>"


def joined(items: Iterable[str] | None, none: str = "") -> str:
    return ",".join(items or ()) or none


def first_few(items: list[str], limit: int = 3) -> str:
    """`a,b,c + 2 more...`; `<none>` for none."""
    if not items:
        return NONE
    text = ",".join(items[:limit])
    return f"{text} + {len(items) - limit} more..." if len(items) > limit else text


def access_modes(modes: Iterable[str] | None) -> str:
    """`RWO,ROX` in upstream's fixed order, without repetition."""
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    found = set(modes or ())
    return ",".join(text for mode, text in short.items() if mode in found)
