"""From a configuration to profiles: which plugins run, in which order, with what weight and arguments."""

from __future__ import annotations

from peavine.scheduler.evaluation import Profile
from peavine.scheduler.plugins import DEFAULT_PLUGINS

DEFAULT_NAME = "default-scheduler"


def default_profile(name: str = DEFAULT_NAME) -> Profile:
    """Upstream's defaults."""
    plugins = tuple((plugin(), weight) for plugin, weight in DEFAULT_PLUGINS)
    names = frozenset(plugin.name for plugin, _ in plugins)
    return Profile(name, plugins, names, names)
