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
    sometimes: bool = False  # depends on timing: may be absent


KNOWN = [
    # Discovery and documentation.
    Known(r"^discovery ", r"\.singularName: want \"\"", "v1.27 and later fill singularName"),
    Known(r"^discovery .*/apis$", r"\.versions.*: want|preferredVersion", "beta versions of v1.20 are gone, v2 is new"),
    Known(
        r"^discovery .*/apis/|/api/v1$", r"\.(verbs|categories|shortNames|resources)", "resources have changed since"
    ),
    Known(r"", r"\.columnDefinitions\[\d+\]\.description", "the documentation of fields is reworded in each version"),
    Known(
        r"pod",
        r"columnDefinitions\[3\]\.type|cells\[3\]",
        "v1.22 made RESTARTS a string: it tells when the last one was",
    ),
    Known(
        r"kind/(pv|job|job-full|job-badrestart|csidriver|priorityclass) ",
        r"columnDefinitions|cells: want \d+ items",
        "new columns",
    ),
    # Managed fields.
    Known(
        r"", r"managedFields(\[\d+\])?(\.fieldsV1)?\.f:status", "since v1.22 strategies reset status (nobody owns it)"
    ),
    # Services.
    Known(
        r"kind/service-\S+ (PUT|GET|DELETE|PATCH) .*/services(/svc|\?)",
        r"code: want 422, got (200|409)|want \"Invalid\"|\.code: |clusterIPs|managedFields|labels|annotations|rows",
        "since v1.24 an update that leaves out the cluster IP keeps it; what follows in these scenarios differs too",
    ),
    Known(
        r"kind/service-\S+ DELETE ",
        r"\.kind: want \"Status\"|\.status: want \"Success\"|\.details: missing",
        "since v1.23 deleting a Service answers with the Service",
    ),
    Known(r"service", r"causes: .*externalTrafficPolicy", "an unsupported value is NotSupported since v1.26"),
    Known(
        r"invalid/service-nodeport/null metadata.name",
        r"causes: .*nodePort",
        "since v1.22 ports are allocated before the object is validated, and this one may not be free again yet",
        sometimes=True,
    ),
    # Batch.
    Known(
        r"job",
        r"controller-uid",
        "since v1.27 the labels are batch.kubernetes.io/controller-uid (the selector) and the old ones",
    ),
    # Others.
    Known(r"kind/crd ", r"managedFields: want 1 items", "since v1.22 the status that the server wrote stays its own"),
    Known(r"^errors GET /nope", r"\.paths: want", "what else is served has changed"),
    Known(
        r"controllerrevision",
        r"'data'|code: want (201|422), got|\.(kind|apiVersion|reason|code|metadata|data|revision)",
        "v1.20 compared the data's bytes with its decoded form, so that no update passed",
    ),
    Known(r"/(role|clusterrole)", r"\.(rows|rules): want null, got \[\]", "an empty list, written as one"),
]


def reason(where: str, what: str) -> Known | None:
    """The entry that covers a difference."""
    for known in KNOWN:
        if re.search(known.where, where) and re.search(known.what, what):
            return known
    return None
