"""What a container gets of its node for itself alone: whole CPUs, memory of NUMA nodes, devices, and all of them near
to one another.

What belongs here chooses and remembers; it sets nothing: CRI messages are made elsewhere. Each manager tells hints
(which NUMA nodes would do), `topology.py` joins them, then each allocates by the joined hint.
"""
