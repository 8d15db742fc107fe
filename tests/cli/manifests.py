"""Objects that the command-line tests work on."""

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: nginx:1
        ports: [{containerPort: 80, name: http}]
        env: [{name: A, value: b}, {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        resources: {limits: {cpu: 500m, memory: 64Mi}, requests: {cpu: 100m}}
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 5}
        volumeMounts: [{name: v, mountPath: /v, readOnly: true}]
      volumes: [{name: v, configMap: {name: settings}}]
      tolerations: [{key: k, operator: Exists, effect: NoSchedule}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, name: http}, {port: 443, name: https}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {tier: "1"}, annotations: {note: "two words"}}
data: {a: "1", b.txt: "line one\\nline two\\n", yes: "true"}
"""

CHANGED = WEB.replace("nginx:1", "nginx:2").replace("replicas: 2", "replicas: 3").replace("{name: A, value: b}, ", "")

NODE = """
apiVersion: v1
kind: Node
metadata: {name: NAME, labels: {kubernetes.io/hostname: NAME, disk: ssd}}
spec: {podCIDR: 172.7.1.0/24, podCIDRs: [172.7.1.0/24]}
"""

_METRICS_KIND = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: PLURAL.metrics.k8s.io, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: metrics.k8s.io
  names: {plural: PLURAL, kind: KIND, singular: SINGULAR}
  scope: SCOPE
  versions:
  - name: v1beta1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
"""
# Stands in for a metrics server: objects with its kinds' names.
METRICS_API = "---".join(
    _METRICS_KIND.replace("PLURAL", plural)
    .replace("KIND", kind)
    .replace("SINGULAR", kind.lower())
    .replace("SCOPE", scope)
    for plural, kind, scope in (("pods", "PodMetrics", "Namespaced"), ("nodes", "NodeMetrics", "Cluster"))
)
METRICS = """
apiVersion: metrics.k8s.io/v1beta1
kind: PodMetrics
metadata: {name: one, namespace: default, labels: {app: web}}
containers: [{name: a, usage: {cpu: 12345678n, memory: 20000Ki}}, {name: b, usage: {cpu: 1m, memory: 3Mi}}]
---
apiVersion: metrics.k8s.io/v1beta1
kind: PodMetrics
metadata: {name: two, namespace: default}
containers: [{name: a, usage: {cpu: "1500m", memory: 2Gi}}]
---
apiVersion: metrics.k8s.io/v1beta1
kind: PodMetrics
metadata: {name: three, namespace: kube-system}
containers: [{name: a, usage: {cpu: "0", memory: "0"}}]
---
apiVersion: metrics.k8s.io/v1beta1
kind: NodeMetrics
metadata: {name: node-1}
usage: {cpu: 1234567890n, memory: 2000000Ki}
"""
