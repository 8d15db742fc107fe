"""Where we answer otherwise than the recorded v1.20 server, on purpose: what v1.37 does, with the reason.

Each entry: a pattern for `SCENARIO METHOD PATH`, a pattern for the difference, and why. A difference that no entry
covers is a bug; an entry that covers nothing is out of date. Both fail the test.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Known(NamedTuple):
    where: str
    what: str
    why: str


KNOWN = [
    Known(r"^discovery ", r"\.singularName: want \"\"", "v1.27 and later fill singularName"),
    Known(r"^discovery .*/apis$", r"\.versions: want \d items|preferredVersion", "beta versions of v1.20 are gone"),
    Known(r"", r"\.columnDefinitions\[\d+\]\.description", "the documentation of fields is reworded in each version"),
    Known(r"", r"managedFields(\[\d+\])?(\.fieldsV1)?\.f:status", "since v1.22 strategies reset status (and own none)"),
]


def reason(where: str, what: str) -> Known | None:
    """The entry that covers a difference."""
    for known in KNOWN:
        if re.search(known.where, where) and re.search(known.what, what):
            return known
    return None
