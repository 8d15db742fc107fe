"""Files of a kustomization: below its own directory only, unless that restriction is lifted. Nothing is fetched."""

from __future__ import annotations

import os
from typing import Any

from peavine.cli.failures import CliError

NAMES = ("kustomization.yaml", "kustomization.yml", "Kustomization")
Object = dict[str, Any]


class Loader:
    """Reads what a kustomization in `root` names."""

    def __init__(self, root: str, *, restricted: bool = True, parents: tuple[str, ...] = ()) -> None:
        self.root, self.restricted, self.parents = os.path.realpath(root), restricted, parents

    def below(self, path: str) -> Loader:
        """The loader of another kustomization's directory. Raises CliError for a cycle."""
        where = os.path.realpath(os.path.join(self.root, path))
        above = (*self.parents, self.root)
        for directory in above:
            if directory == where or directory.startswith(where.rstrip("/") + "/"):
                raise CliError(f"cycle detected: candidate root '{where}' contains visited root '{directory}'")
        return Loader(where, restricted=self.restricted, parents=above)

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(os.path.join(self.root, path))

    def read(self, path: str) -> bytes:
        if is_remote(path):
            raise CliError(refusal(path))
        full = os.path.realpath(os.path.join(self.root, path))
        if not os.path.exists(full):
            raise CliError(f"evalsymlink failure on '{full}' : lstat {full}: no such file or directory")
        if os.path.isdir(full):
            raise CliError(f"'{full}' must resolve to a file")
        if self.restricted and not full.startswith(self.root.rstrip("/") + "/"):
            raise CliError(f"security; file '{full}' is not in or below '{self.root}'")
        with open(full, "rb") as file:
            return file.read()

    def kustomization(self) -> tuple[Object, str]:
        """The kustomization of this directory, and the name of its file."""
        found = [name for name in NAMES if os.path.isfile(os.path.join(self.root, name))]
        if not found:
            listed = ", ".join(f"'{name}'" for name in NAMES[:2]) + f" or '{NAMES[2]}'"
            raise CliError(f"unable to find one of {listed} in directory '{self.root}'")
        if len(found) > 1:
            raise CliError(f"Found multiple kustomization files: {self.root}\n")
        from peavine.machinery.codecs import yaml

        data = self.read(found[0])
        try:
            document = yaml.decode(data, few_words=True)
        except yaml.YamlError as error:
            raise CliError(f"invalid Kustomization: error converting YAML to JSON: {error}") from None
        if not document:
            raise CliError(f"{found[0]} is empty")
        if not isinstance(document, dict):
            raise CliError("invalid Kustomization: json: cannot unmarshal into Go value of type types.Kustomization")
        return document, found[0]


def is_remote(path: str) -> bool:
    """Whether a path names a place on the network: a URL, or a repository in git's short forms."""
    first = path.partition("/")[0]
    return (
        "://" in path
        or path.startswith(("git@", "git::", "github.com/", "github.com:"))
        or "?ref=" in path
        or (first.count(".") >= 1 and first.endswith((".com", ".org", ".io")) and "/" in path)
    )


def refusal(path: str) -> str:
    return f"'{path}' is remote: nothing is fetched here; clone or download it, and name the local copy"
