"""The three patch formats that turn one document into another without a memory of who set what.

A format lives here as one module with one pure function; server-side apply, which has that memory, is `apply`.
"""

from peavine.machinery.patches.json import apply_json_patch
from peavine.machinery.patches.merge import apply_merge_patch
from peavine.machinery.patches.strategic import apply_strategic_patch

__all__ = ["apply_json_patch", "apply_merge_patch", "apply_strategic_patch"]
