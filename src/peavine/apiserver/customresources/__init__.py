"""Custom resources: definitions become kinds that are served as the built-in ones are, and go with all their objects.

What knows one object's schema is in `versions`; the loop over definitions is in `controller`.
"""

from peavine.apiserver.customresources.controller import CustomResources

__all__ = ["CustomResources"]
