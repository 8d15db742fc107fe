"""Conversions between versions that only somebody outside, a user's webhook, can make: waited for, never blocked on.

Code that turns objects from one version into another is synchronous and pure. Where a webhook must be asked first, it
raises `Unconverted`; whoever called it, in a coroutine, waits for the answer and does the same work again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Unconverted(Exception):
    """`await fetch()`, then the conversion can be made. It is nobody's fault, and no answer to a client."""

    async def fetch(self) -> None:
        """Ask for the conversion, and keep the answer. Raises ApiError 500 where the webhook fails."""
        raise NotImplementedError


async def settled(work: Callable[[], T]) -> T:
    """The result of `work`, which is begun again for each conversion that it must wait for.

    So `work` changes nothing that a second run could see.
    """
    while True:
        try:
            return work()
        except Unconverted as missing:
            await missing.fetch()
