"""ImageLocality: nodes that have the pod's images already, weighted by size and by how widely an image is spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from peavine.scheduler.nodes import Ints, Mask, Rows
from peavine.scheduler.plugins.base import SCORE_MAX, Plugin, Rating
from peavine.scheduler.template import Template

if TYPE_CHECKING:
    from peavine.scheduler.context import Context

_LEAST_BYTES = 23 << 20
_MOST_BYTES = 1000 << 20  # a container


class ImageLocality(Plugin):
    name = "ImageLocality"

    def rating(self, context: Context, template: Template) -> Rating | None:
        nodes = context.cluster.nodes
        if not any(image in nodes.images for image in template.images):
            return None
        total = np.zeros(nodes.capacity, np.int64)
        for image in template.images:
            sizes = nodes.images.get(image)
            if sizes:
                spread = len(sizes) / len(nodes)
                for row, size in sizes.items():
                    total[row] += int(size * spread)
        most = _MOST_BYTES * len(template.images)
        total = np.clip(total, _LEAST_BYTES, most)
        return _Rating(SCORE_MAX * (total - _LEAST_BYTES) // (most - _LEAST_BYTES))


class _Rating(Rating):
    plugin = ImageLocality.name
    static = True

    def __init__(self, scores: Ints) -> None:
        self._scores = scores

    def rate(self, rows: Rows, feasible: Mask) -> Ints:
        return self._scores[rows]
