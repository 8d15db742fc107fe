"""Names of hosts as listeners and routes have them: `a.example`, `*.example` (any number of labels), empty for all."""

from __future__ import annotations

from peavine.ingress.model import ANY_HOST


def covers(wide: str, narrow: str) -> bool:
    """Whether all names of `narrow` are among those of `wide`."""
    if not wide or wide == narrow:
        return True
    # `*.a.example` is below `*.example`, and so is `a.example`.
    return wide.startswith("*.") and narrow.removeprefix("*").endswith(wide[1:]) and narrow != wide[2:]


def intersection(one: str, other: str) -> str | None:
    """The names that both have; None if there are none."""
    if covers(one, other):
        return other
    return one if covers(other, one) else None


def specificity(host: str) -> tuple[int, int]:
    """(characters where it has no wildcard, characters)"""
    return (0 if host.startswith("*.") else len(host)), len(host)


def place_of(host: str) -> str:
    """As the tables of routes have it."""
    if not host:
        return ANY_HOST
    return f"*{host}" if host.startswith("*.") else host
