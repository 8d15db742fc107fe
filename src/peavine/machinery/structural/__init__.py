"""Structural schemas: what a CustomResourceDefinition says about its objects, and everything done by it.

Pruning, defaulting, validation, list types, the check that a schema is structural, and its form as a `Type`.
What belongs here takes a schema and a value; what knows the CustomResourceDefinition kind belongs in `api` and above.
"""

from peavine.machinery.structural.check import check_schema
from peavine.machinery.structural.defaulting import apply_defaults, prune_nulls
from peavine.machinery.structural.node import Structural
from peavine.machinery.structural.pruning import prune
from peavine.machinery.structural.types import type_of
from peavine.machinery.structural.validation import validate, validate_lists

__all__ = [
    "Structural", "apply_defaults", "check_schema", "prune", "prune_nulls", "type_of", "validate", "validate_lists",
]  # fmt: skip
