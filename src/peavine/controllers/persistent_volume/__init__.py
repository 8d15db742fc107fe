"""Binding claims to volumes, providing volumes for claims, and what becomes of a volume when its claim goes.

`matching` is pure: which volume suits a claim. `provision` describes directories as volumes. `controller` binds.
"""
