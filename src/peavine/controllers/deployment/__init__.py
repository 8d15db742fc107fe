"""Deployment: revisions of a template as ReplicaSets, and the way from one to the next.

`arithmetic` holds the pure rules (how many pods where), `conditions` the status, `controller` the writes.
"""

from peavine.controllers.deployment.controller import DeploymentController

__all__ = ["DeploymentController"]
