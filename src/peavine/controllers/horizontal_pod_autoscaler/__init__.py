"""HorizontalPodAutoscaler: replicas that follow a metric.

`replicas` is the arithmetic of one metric, `behavior` that of limits, rates and stabilisation (both pure), `metrics`
asks the metrics APIs, `controller` puts them together. Upstream: pkg/controller/podautoscaler.
"""
