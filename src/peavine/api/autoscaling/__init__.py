"""The autoscaling group: horizontal pod autoscalers (v2 stored, v1 converted) and Scale."""
