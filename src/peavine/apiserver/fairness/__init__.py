"""Who waits when the server is busy: priority levels, fair queues, and the limit on what is in flight."""

from peavine.apiserver.fairness.controller import Admitted, MaxInFlight, PriorityAndFairness
from peavine.apiserver.fairness.stock import CacheStock

__all__ = ["Admitted", "CacheStock", "MaxInFlight", "PriorityAndFairness"]
