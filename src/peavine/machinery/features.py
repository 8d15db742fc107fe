"""Feature gates: which fields of the API a Kubernetes version takes, and which a user has switched on or off.

`features.txt` has one line a gate: its name, what it was from which version on (`1.30=alpha 1.31=beta 1.33=ga`; `alpha`
is off, `beta` on, `beta-off` beta but off, `ga` on and locked), a colon, and the fields that it guards. Only gates
that change something here are listed. A field whose gate is off is dropped without a word when an object is decoded, as
upstream does, and stays in OpenAPI. Follows component-base/featuregate and the "Feature Gates" page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

STAGES = {"alpha": "ALPHA", "beta": "BETA", "beta-off": "BETA", "ga": ""}  # as the metric kubernetes_feature_enabled
_ON = ("beta", "ga")
_GROUPS_OF_GATES = {"AllAlpha": "ALPHA", "AllBeta": "BETA"}


class Gate(NamedTuple):
    """`history` is (minor version, stage), oldest first; `fields` are (full name of a definition, field)."""

    name: str
    history: tuple[tuple[int, str], ...]
    fields: tuple[tuple[str, str], ...]

    def stage(self, minor: int) -> str | None:
        """The stage in Kubernetes 1.`minor`; None where the gate did not exist yet."""
        return next((stage for since, stage in reversed(self.history) if since <= minor), None)


@cache
def known_gates() -> dict[str, Gate]:
    """All gates by name."""
    gates = {}
    for line in Path(__file__).with_name("features.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        head, _, fields = line.partition(":")
        name, *stages = head.split()
        history = tuple(
            (int(since.removeprefix("1.")), stage) for since, _, stage in (s.partition("=") for s in stages)
        )
        paths = tuple(("io.k8s.api." + path.rpartition(".")[0], path.rpartition(".")[2]) for path in fields.split())
        gates[name] = Gate(name, history, paths)
    return gates


class Features:
    """The gates of Kubernetes `version` ("1.37") with the user's `settings` over the defaults.

    Raises ValueError for a gate that is not known in that version, and for one that is locked.
    """

    def __init__(self, version: str, settings: Mapping[str, bool] | None = None) -> None:
        minor = int(version.removeprefix("1."))
        self._stages = {name: stage for name, gate in known_gates().items() if (stage := gate.stage(minor))}
        self._enabled = {name: stage in _ON for name, stage in self._stages.items()}
        settings = settings or {}
        for group, stage in _GROUPS_OF_GATES.items():
            if group in settings:
                self._enabled |= {n: settings[group] for n, s in self._stages.items() if STAGES[s] == stage}
        for name, wanted in settings.items():
            if name not in _GROUPS_OF_GATES:
                self._set(name, wanted)

    def _set(self, name: str, wanted: bool) -> None:
        stage = self._stages.get(name)
        if stage is None:
            raise ValueError(f"unrecognized feature gate: {name}")
        if stage == "ga" and not wanted:
            raise ValueError(f"cannot set feature gate {name} to false, feature is locked to true")
        self._enabled[name] = wanted

    def enabled(self, name: str) -> bool:
        """Whether a gate is on; one that this version lacks is off."""
        return self._enabled.get(name, False)

    def __iter__(self) -> Iterator[tuple[str, str, bool]]:
        """(name, stage as upstream's metric names it, whether it is on) of every gate."""
        return ((name, STAGES[stage], self._enabled[name]) for name, stage in self._stages.items())

    def disabled_fields(self) -> dict[str, frozenset[str]]:
        """The fields to drop, by the full name of their definition."""
        found: dict[str, set[str]] = {}
        for name, gate in known_gates().items():
            if not self.enabled(name):
                for definition, field in gate.fields:
                    found.setdefault(definition, set()).add(field)
        return {definition: frozenset(fields) for definition, fields in found.items()}


def parse_gates(text: str) -> dict[str, bool]:
    """`A=true,B=false` as on upstream's command lines. Raises ValueError."""
    settings = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"missing bool value for {name}")
        if value.lower() not in ("true", "false", "t", "f", "1", "0"):
            raise ValueError(
                f'invalid value of {name}={value}, err: strconv.ParseBool: parsing "{value}": invalid syntax'
            )
        settings[name] = value.lower() in ("true", "t", "1")
    return settings
