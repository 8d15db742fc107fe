"""NetworkPolicies into the kernel: one nftables table, of which only what differs is sent."""

from __future__ import annotations

import logging

from peavine.linux import nftables, programs
from peavine.linux.nftables import goto
from peavine.linux.nfttable import Element, ManagedTable
from peavine.network.policy import FIXED_SETS, TABLE, Desired, skeleton

log = logging.getLogger(__name__)


class Enforcer:
    """Made and called in the network namespace whose pods it guards. Every method returns when the kernel has it."""

    def __init__(self) -> None:
        self._table = ManagedTable("inet", TABLE, skeleton(), FIXED_SETS)
        self._held: dict[Element, bytes] | None = None
        self._sets: dict[str, str] = {}

    def intact(self) -> bool:
        return self._table.intact()

    def close(self) -> None:
        self._table.close()

    def forget(self) -> None:
        """The next call compares with the kernel instead of with what was sent last."""
        self._held = None

    def enforce(self, desired: Desired) -> int:
        """Bring `desired` into force; how many elements were sent. Raises OSError; the next call then compares anew."""
        wanted = {e: goto(target[0]) if target else b"" for e, target in desired.elements.items()}
        if self._held is None:
            if not desired.chains and not self._table.intact():
                # No policy, no table: packets pass nothing of ours.
                cleanup()
                return 0
            self._table.open()
            own = [c for c in self._table.chains if c.startswith(("ingress-", "egress-"))]
            self._sets = dict.fromkeys(self._table.set_names(), "")
            self._held = self._table.elements(self._sets)
            stale = [c for c in own if c not in desired.chains]
        else:
            stale = [c for c in self._table.chains if c.startswith(("ingress-", "egress-")) and c not in desired.chains]
        held, self._held = self._held, None
        self._table.make(desired.chains)
        sent = self._table.change(held, wanted)
        # Chains go only after the last element that leads to them.
        self._table.remove(stale, [name for name in self._sets if name not in desired.sets])
        self._sets = dict(desired.sets)
        self._held = wanted
        return sent


def cleanup() -> None:
    if programs.available("nft"):
        nftables.remove_tables([("inet", TABLE)])
