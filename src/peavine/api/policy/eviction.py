"""Eviction: a request to delete a pod that disruption budgets may refuse."""

from __future__ import annotations
