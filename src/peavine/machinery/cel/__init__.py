"""CEL, the expression language of Kubernetes' rules: parsed, checked against types, compiled to closures, costed.

`compile_expression` is the way in. The language lives here, with the libraries that Kubernetes adds; who may use which
variables is for the callers (custom resources, admission policies, match conditions).
"""

from peavine.machinery.cel.errors import CelError, CompileError, CostExceeded
from peavine.machinery.cel.program import Environment, Program
from peavine.machinery.cel.types import Type, list_of, map_of, object_of

__all__ = [
    "CelError",
    "CompileError",
    "CostExceeded",
    "Environment",
    "Program",
    "Type",
    "list_of",
    "map_of",
    "object_of",
]
