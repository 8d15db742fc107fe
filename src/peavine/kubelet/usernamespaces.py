"""Ranges of user and group IDs for pods with a user namespace of their own (`hostUsers: false`).

Every pod gets a range that no other pod of the node has, as upstream hands them out: 65536 IDs (or a multiple), the
first range from the node's /etc/subuid entry of the user `kubelet`, else from 65536 on. What a pod has is in a file of
its directory (upstream's `userns`), so that a restarted kubelet gives nothing twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from peavine.kubelet.paths import Paths

Object = dict[str, Any]
IDS_PER_POD = 65536
FILE = "userns"
SUBORDINATE_USER = "kubelet"


class RangesError(ValueError):
    """No range can be given; the message says why."""


def subordinate_range(path: Path = Path("/etc/subuid"), default_length: int = 0) -> tuple[int, int]:
    """(first id, how many) that /etc/subuid leaves to the kubelet; without an entry, what comes after the host's."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        user, _, rest = line.partition(":")
        first, _, length = rest.partition(":")
        if user == SUBORDINATE_USER and first.isdigit() and length.isdigit():
            return int(first), int(length)
    return IDS_PER_POD, default_length


class UserNamespaces:
    def __init__(self, paths: Paths, *, max_pods: int, per_pod: int = IDS_PER_POD, file: Path | None = None) -> None:
        if per_pod <= 0 or per_pod % IDS_PER_POD:
            raise RangesError(f"userNamespaces.idsPerPod must be a multiple of {IDS_PER_POD}")
        self._paths, self._per_pod = paths, per_pod
        first, length = subordinate_range(file or Path("/etc/subuid"), max_pods * per_pod)
        if first < IDS_PER_POD or first % IDS_PER_POD:
            raise RangesError(f"the first subordinate ID of {SUBORDINATE_USER} must be a multiple of {IDS_PER_POD}")
        self._first, self._count = first, length // per_pod
        # first host id -> pod uid
        self._taken: dict[int, str] = {}
        for known in paths.pods.glob(f"*/{FILE}") if paths.pods.is_dir() else ():
            found = self._read(known.parent.name)
            if found is not None:
                self._taken[found["uidMappings"][0]["hostId"]] = known.parent.name

    def _read(self, uid: str) -> Object | None:
        try:
            return json.loads((self._paths.pod(uid) / FILE).read_text())  # type: ignore[no-any-return]
        except (OSError, ValueError):
            return None

    def options(self, pod: Object) -> Object | None:
        """CRI's UserNamespace of the pod: the range that it has, or a free one. None: the host's own IDs.

        Raises RangesError if all ranges are taken.
        """
        if (pod.get("spec") or {}).get("hostUsers") is not False:
            return None
        uid = pod["metadata"]["uid"]
        had = self._read(uid)
        if had is None:
            had = self._give(uid)
        return {
            "uids": [_mapping(entry) for entry in had["uidMappings"]],
            "gids": [_mapping(entry) for entry in had["gidMappings"]],
        }

    def _give(self, uid: str) -> Object:
        for number in range(self._count):
            first = self._first + number * self._per_pod
            if first not in self._taken:
                break
        else:
            raise RangesError("could not allocate a range of user namespaces: all are in use")
        entry = {"hostId": first, "containerId": 0, "length": self._per_pod}
        given = {"uidMappings": [entry], "gidMappings": [entry]}
        directory = self._paths.pod(uid)
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        draft = directory / f"{FILE}.new"
        draft.write_text(json.dumps(given))
        draft.replace(directory / FILE)
        self._taken[first] = uid
        return given

    def release(self, uid: str) -> None:
        """The pod's directory is gone: its range is free."""
        self._taken = {first: owner for first, owner in self._taken.items() if owner != uid}


def _mapping(entry: Object) -> Object:
    return {"host_id": entry["hostId"], "container_id": entry["containerId"], "length": entry["length"]}
