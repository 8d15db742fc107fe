"""How long the machinery takes for a typical pod: decoding, protobuf, JSON and YAML, validation of metadata."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

from peavine.machinery.codecs import json, protobuf, yaml
from peavine.machinery.decode import decode_plain
from peavine.machinery.meta import validate_metadata
from peavine.machinery.names import GVK
from peavine.machinery.schema import Schema

CONTAINER: dict[str, Any] = {
    "name": "c", "image": "nginx:1", "ports": [{"containerPort": 80, "name": "http"}], "imagePullPolicy": "Always",
    "env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": "100m"}},
    "livenessProbe": {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 5},
    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
}  # fmt: skip
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-1", "namespace": "default", "labels": {"app": "web", "tier": "x"}},
    "spec": {
        "containers": [CONTAINER, {"name": "d", "image": "x", "command": ["sh", "-c", "sleep 1"]}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "restartPolicy": "Always",
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
    },
}


def measure(name: str, work: Callable[[], Any], times: int = 2000) -> None:
    work()
    started = time.perf_counter()
    for _ in range(times):
        work()
    print(f"{name:34} {(time.perf_counter() - started) / times * 1e6:8.1f} µs")


def main() -> None:
    started = time.perf_counter()
    schema = Schema.load()
    print(f"{'load the schema':34} {(time.perf_counter() - started) * 1e3:8.1f} ms")
    type = schema.for_kind(GVK("", "v1", "Pod"))
    assert type is not None
    pod = decode_plain(copy.deepcopy(POD), type)[0]
    text, proto, block = json.encode(pod), protobuf.encode(pod, schema), yaml.encode(pod)
    print(f"{'sizes: JSON, protobuf, YAML':34} {len(text)}, {len(proto)}, {len(block)} bytes")
    measure("decode by type", lambda: decode_plain(POD, type))
    measure("JSON to object", lambda: json.decode(text))
    measure("object to JSON", lambda: json.encode(pod))
    measure("look for duplicate keys", lambda: json.duplicate_keys(text, pod))
    measure("protobuf to object", lambda: protobuf.decode(proto, schema))
    measure("object to protobuf", lambda: protobuf.encode(pod, schema))
    measure("YAML to object", lambda: yaml.decode(block), 100)
    measure("object to YAML", lambda: yaml.encode(pod), 100)
    measure("validate metadata", lambda: validate_metadata(pod["metadata"], namespaced=True))


if __name__ == "__main__":
    main()
