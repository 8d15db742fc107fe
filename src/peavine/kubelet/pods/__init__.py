"""What a pod becomes on its node: the serial worker, what it decides (pure), and what it asks of the runtime.

`actions.py` (what to do next) and `status.py` (what to report) are functions of the pod and of what the runtime
says; `sandbox.py` and `containers.py` turn specs into CRI messages; `worker.py` does things, one at a time a pod.
"""
