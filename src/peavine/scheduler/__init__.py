"""Filter, score, preempt, bind: pods to nodes, as arithmetic on arrays."""
