"""Job: pods that run to completion, counted exactly once.

`indexes`, `policies`, `backoff` and `tracking` hold the pure rules; `controller` finds the pods, `step` writes.
Upstream: pkg/controller/job; "Jobs", KEP-2307 (finalizer tracking), KEP-2214 (Indexed), KEP-3329 (pod failure policy),
KEP-3850 (backoff per index), KEP-3998 (success policy), KEP-3939 (pod replacement policy), KEP-4368 (managedBy).
"""

from peavine.controllers.job.controller import JobController

__all__ = ["JobController"]
