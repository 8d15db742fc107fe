"""OpenAPI documents, v2 and v3, of what is served."""

from peavine.apiserver.openapi.openapi import OpenApi

__all__ = ["OpenApi"]
