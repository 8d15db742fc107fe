"""Scenario files: what simulated pods do, as a list of scripts or as Stages of kwok.

A file holds either the list of `peavine kubelet --simulated-stages`

    - {match: {pod: "web-*", labels: {app: web}}, script: {start-delay: 2, ready-after: 10}}

or documents of kind Stage (kwok.x-k8s.io/v1alpha1). Of Stages a part is understood: those of Pods, which select by
labels, and whose status is plain YAML in which containers end or are not ready. What is beyond that (Go templates,
other selectors, Stages of Nodes) is refused by name rather than left out silently.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

API_VERSION = "kwok.x-k8s.io/v1alpha1"
LABEL_KEY = re.compile(r"""\.metadata\.labels\[["']([^"']+)["']\]""")

Object = dict[str, Any]


def load_stages(path: str | Path) -> list[Object]:
    """The scripts of a scenario file. Raises ValueError for what is not understood, OSError."""
    import yaml

    text = Path(path).read_text()
    try:
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(documents) == 1 and isinstance(documents[0], list):
        return documents[0]
    scripts: list[Object] = []
    for document in documents:
        if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (
            API_VERSION,
            "Stage",
        ):
            raise ValueError(f"{path}: a list of scripts, or documents of kind Stage ({API_VERSION}) are wanted")
        scripts += from_stage(document)
    return scripts


def from_stage(stage: Object) -> list[Object]:
    """A Stage of Pods as scripts, one for each container that it names. Raises ValueError."""
    name = (stage.get("metadata") or {}).get("name", "")
    spec = dict(stage.get("spec") or {})

    def refuse(what: str) -> ValueError:
        return ValueError(f"Stage {name}: {what} is not implemented")

    about = spec.pop("resourceRef", {})
    if about.get("kind") != "Pod":
        raise refuse(f"a Stage of {about.get('kind', 'nothing')}")
    match: Object = {"labels": _labels(spec.pop("selector", None) or {}, refuse)}
    delay = dict(spec.pop("delay", None) or {})
    seconds = delay.pop("durationMilliseconds", 0) / 1000
    if delay:
        raise refuse(f"delay.{min(delay)}")
    following = dict(spec.pop("next", None) or {})
    template = following.pop("statusTemplate", "")
    spec.pop("weight", None)  # all scripts that match apply, later ones over earlier ones
    for rest, where in ((following, "next."), (spec, "")):
        if rest:
            raise refuse(where + min(rest))
    if "{{" in template:
        raise refuse("a Go template")
    import yaml

    status = yaml.safe_load(template) or {}
    scripts = [_container(entry, seconds, match, refuse) for entry in status.get("containerStatuses") or ()]
    if not scripts:
        raise refuse("a status without containerStatuses")
    return scripts


def _labels(selector: Object, refuse: Any) -> dict[str, str]:
    labels = dict(selector.get("matchLabels") or {})
    for wanted in selector.get("matchExpressions") or ():
        key = LABEL_KEY.fullmatch(wanted["key"])
        if key and wanted["operator"] == "In" and len(wanted.get("values") or ()) == 1:
            labels[key[1]] = wanted["values"][0]
        elif wanted["key"] != ".metadata.deletionTimestamp" and not wanted["key"].startswith(".status.phase"):
            raise refuse(f"a selector by {wanted['key']}")
    return labels


def _container(entry: Object, seconds: float, match: Object, refuse: Any) -> Object:
    state = entry.get("state") or {}
    script: Object = {}
    if "terminated" in state:
        script = {"run-for": seconds, "exit-code": state["terminated"].get("exitCode", 0)}
    elif "running" in state and entry.get("ready", True):
        script = {"ready-after": seconds}
    elif "running" in state:
        script = {"ready-after": "never"}
    else:
        raise refuse("a container that neither runs nor has ended")
    return {"match": {**match, **({"container": entry["name"]} if entry.get("name") else {})}, "script": script}
