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
