"""Server-side apply: field sets, typed comparison and merging, and the managed fields that remember who set what.

`managed.track_update` and `managed.apply` are the two ways in; the other modules know nothing of managers.
"""

from peavine.machinery.apply.managed import Tracking, apply, keep_times, manager_name, track_update

__all__ = ["Tracking", "apply", "keep_times", "manager_name", "track_update"]
