"""Scenario files: what simulated pods do, as a list of scripts or as Stages of kwok.

A file holds either the list of `peavine kubelet --simulated-stages`

    - {match: {pod: "web-*", labels: {app: web}}, script: {start-delay: 2, ready-after: 10}}

which the simulated kubelet goes by, or documents of kind Stage (kwok.x-k8s.io/v1alpha1), which `kwok.py` plays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

API_VERSION = "kwok.x-k8s.io/v1alpha1"

Object = dict[str, Any]


class Scenario(NamedTuple):
    """What a file holds: one of the two is empty."""

    scripts: list[Object]
    stages: list[Object]


def load_scenario(path: str | Path) -> Scenario:
    """Raises ValueError for a file that is neither, OSError."""
    import yaml

    try:
        documents = [d for d in yaml.safe_load_all(Path(path).read_text()) if d is not None]
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(documents) == 1 and isinstance(documents[0], list):
        return Scenario(documents[0], [])
    for document in documents:
        if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (
            API_VERSION,
            "Stage",
        ):
            raise ValueError(f"{path}: a list of scripts, or documents of kind Stage ({API_VERSION}) are wanted")
    return Scenario([], documents)
