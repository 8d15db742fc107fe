"""Volumes: one module a source, all of one shape; `manager.py` sets a pod's volumes up and takes them down.

A source is a class with `set_up(pod, volume, where)`, which may be called again at any time and makes the directory
current, and `tear_down(where)`. `SOURCES` names them by their field in the volume's spec.
"""
