"""The words of the scheduler's events and conditions, as upstream says them."""

from __future__ import annotations

from collections import Counter

# The part of DynamicResources in every failure: of a pod without claims, and with.
NO_CLAIMS = "no new claims to deallocate"
CLAIMS_STAY = "still not schedulable"
CLAIM_FREED = "deallocation of ResourceClaim completed"
STALE_CLAIM = "cannot schedule extended resource claim"
NO_NODES = "no nodes available to schedule pods"
NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER_PREEMPTS = "not eligible due to preemptionPolicy=Never."
TERMINATING_VICTIM = "not eligible due to a terminating pod on the nominated node."


def fit_error(nodes: int, reasons: Counter[str], before: str = "", after: str = "") -> str:
    """`0/5 nodes are available: 3 Insufficient cpu, 2 node(s) were unschedulable. <after>`.

    `before` is the message of a refusal that no node mattered for; it replaces the reasons."""
    text = f"0/{nodes} nodes are available:"
    if before:
        text += f" {before}."
    elif reasons:
        text += " " + ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items())) + "."
    return f"{text} {after}" if after else text
