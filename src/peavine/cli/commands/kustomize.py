"""Build a set of resources from a kustomization directory.

Resources, components, generators, patches, replacements and the rest are built in. Nothing is fetched and nothing is
run: remote directories, Helm charts and plugins are refused.
"""

from __future__ import annotations

import os
from typing import Any

from peavine.cli.failures import CliError
from peavine.cli.flags import Parsed, array, boolean, string
from peavine.cli.session import Session

FLAGS = (
    string("output", "o", help="If specified, write output to this path."),
    string("load-restrictor", default="LoadRestrictionsRootOnly",
           help="if set to 'LoadRestrictionsNone', local kustomizations may load files from outside their root."),
    boolean("enable-helm", help="Refused: nothing is run from here."),
    boolean("enable-alpha-plugins", help="Refused: nothing is run from here."),
    string("helm-command", default="helm", help="Unused: charts are not rendered."),
    string("helm-kube-version", help="Unused: charts are not rendered."),
    array("helm-api-versions", help="Unused: charts are not rendered."),
    boolean("helm-debug", help="Unused: charts are not rendered."),
    boolean("network", help="Refused: nothing is fetched."),
    string("network-name", default="bridge", help="Unused: functions are not run."),
    array("env", "e", help="Unused: functions are not run."),
    array("mount", help="Unused: functions are not run."),
    boolean("as-current-user", help="Unused: functions are not run."),
)  # fmt: skip


async def run(session: Session, flags: Parsed) -> int:
    from peavine.cli.kustomize.build import build
    from peavine.cli.output.documents import to_yaml

    if len(flags.arguments) > 1:
        raise CliError("specify one path to kustomization.yaml")
    for refused in ("enable-helm", "enable-alpha-plugins", "network"):
        if flags[refused]:
            raise CliError(f"--{refused}: nothing is fetched and nothing is run from here")
    restriction = flags["load-restrictor"]
    if restriction not in ("LoadRestrictionsRootOnly", "LoadRestrictionsNone"):
        raise CliError(f"illegal flag value --load-restrictor {restriction}; legal values: "
                       "[LoadRestrictionsRootOnly LoadRestrictionsNone]")  # fmt: skip
    directory = flags.arguments[0] if flags.arguments else "."
    objects = build(directory, restricted=restriction == "LoadRestrictionsRootOnly")
    text = "---\n".join(to_yaml(obj) for obj in objects)
    if not flags["output"]:
        session.out.write(text)
        return 0
    _save(flags["output"], objects, text)
    return 0


def _save(where: str, objects: list[dict[str, Any]], text: str) -> None:
    from peavine.cli.output.documents import to_yaml

    if not os.path.isdir(where):
        with open(where, "w") as file:
            file.write(text)
        return
    for obj in objects:
        group = obj.get("apiVersion", "").replace("/", "_").lower()
        name = f"{group}_{obj['kind']}_{obj['metadata']['name']}.yaml".lower()
        with open(os.path.join(where, name), "w") as file:
            file.write(to_yaml(obj))
