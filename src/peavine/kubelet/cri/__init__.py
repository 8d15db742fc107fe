"""The door to the container runtime: CRI v1 as a protocol, the client that speaks it, a simulated runtime.

What belongs here knows sandboxes, containers and images of a runtime; pods and their rules live above.
"""
