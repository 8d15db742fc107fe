"""What an object of each kind needs, and as much as the rules of its kind allow beside that."""

from __future__ import annotations

import base64
import copy
import datetime
import functools
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peavine.api.kind import Kind
from peavine.machinery.decode import decode
from peavine.machinery.errors import ApiError
from peavine.machinery.schema import Schema, Type

Object = dict[str, Any]

LABELS = {"app": "web"}
POD: Object = {"containers": [{"name": "c", "image": "i"}]}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": POD}
SELECTOR = {"matchLabels": LABELS}
WORKLOAD = {"selector": SELECTOR, "template": TEMPLATE}
ROLE = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
HOOK = {
    "name": "h.example.com",
    "clientConfig": {"url": "https://example.com/h"},
    "sideEffects": "None",
    "admissionReviewVersions": ["v1"],
    "rules": [{**RULE, "resources": ["podtemplates"], "operations": ["CONNECT"]}],
}
PARAMS_FREE_MATCH = {"resourceRules": [{**RULE, "resources": ["podtemplates"]}]}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
VOLUME = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp/v"}}
DEVICES = {"requests": [{"name": "r", "exactly": {"deviceClassName": "c.example.com"}}]}
CUSTOM = {
    "group": "every.example.com",
    "names": {"plural": "things", "kind": "Thing", "listKind": "ThingList", "singular": "thing"},
    "scope": "Namespaced",
    "versions": [
        {
            "name": "v1",
            "served": True,
            "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        }
    ],
}

# (group, plural) or plural -> what an object needs beside its name.
NEEDS: dict[Any, Object] = {
    "pods": {"spec": POD},
    "podtemplates": {"template": TEMPLATE},
    "replicationcontrollers": {"spec": {"selector": LABELS, "template": TEMPLATE}},
    "services": {"spec": {"ports": [{"port": 80}]}},
    "limitranges": {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}},
    "resourcequotas": {"spec": {"hard": {"secrets": "100"}}},
    "persistentvolumeclaims": {"spec": CLAIM},
    "persistentvolumes": {"spec": VOLUME},
    "events": {"involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"}, "type": "Normal"},
    ("events.k8s.io", "events"): {
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/c",
        "reportingInstance": "i",
        "action": "Test",
        "reason": "Test",
        "type": "Normal",
        "regarding": {"namespace": "default", "kind": "Pod", "name": "p"},
    },
    "daemonsets": {"spec": WORKLOAD},
    "deployments": {"spec": WORKLOAD},
    "replicasets": {"spec": WORKLOAD},
    "statefulsets": {"spec": {**WORKLOAD, "serviceName": "s"}},
    "controllerrevisions": {"data": {"a": 1}, "revision": 1},
    "jobs": {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
    "cronjobs": {
        "spec": {
            "schedule": "* * * * *",
            "jobTemplate": {"spec": {"template": {"spec": {**POD, "restartPolicy": "Never"}}}},
        }
    },
    "horizontalpodautoscalers": {
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}
    },
    "mutatingwebhookconfigurations": {"webhooks": [HOOK]},
    "validatingwebhookconfigurations": {"webhooks": [HOOK]},
    "validatingadmissionpolicies": {
        "spec": {"matchConstraints": PARAMS_FREE_MATCH, "validations": [{"expression": "true"}]}
    },
    "validatingadmissionpolicybindings": {"spec": {"policyName": "p", "validationActions": ["Audit"]}},
    "mutatingadmissionpolicies": {
        "spec": {
            "matchConstraints": PARAMS_FREE_MATCH,
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
        }
    },
    "mutatingadmissionpolicybindings": {"spec": {"policyName": "p"}},
    "customresourcedefinitions": {"spec": CUSTOM},
    "apiservices": {
        "spec": {"group": "every.example.com", "version": "v9", "groupPriorityMinimum": 10, "versionPriority": 10}
    },
    "ingresses": {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    "ingressclasses": {"spec": {"controller": "example.com/c"}},
    "ipaddresses": {"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "every"}}},
    "networkpolicies": {"spec": {"podSelector": {}}},
    "servicecidrs": {"spec": {"cidrs": ["10.200.0.0/24"]}},
    "endpointslices": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]},
    "poddisruptionbudgets": {"spec": {"minAvailable": 1, "selector": SELECTOR}},
    "clusterrolebindings": {"roleRef": ROLE},
    "rolebindings": {"roleRef": ROLE},
    "flowschemas": {"spec": {"priorityLevelConfiguration": {"name": "catch-all"}}},
    "prioritylevelconfigurations": {
        "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}, "nominalConcurrencyShares": 1}}
    },
    "csidrivers": {"spec": {}},
    "csinodes": {"spec": {"drivers": [{"name": "d.example.com", "nodeID": "n"}]}},
    "csistoragecapacities": {"storageClassName": "s"},
    "storageclasses": {"provisioner": "example.com/p"},
    "volumeattachments": {
        "spec": {"attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    },
    "volumeattributesclasses": {"driverName": "example.com", "parameters": {"a": "b"}},
    "priorityclasses": {"value": 10},
    "runtimeclasses": {"handler": "h"},
    "deviceclasses": {"spec": {}},
    "devicetaintrules": {"spec": {"taint": {"key": "example.com/k", "effect": "NoSchedule"}}},
    "resourceclaims": {"spec": {"devices": DEVICES}},
    "resourceclaimtemplates": {"spec": {"spec": {"devices": DEVICES}}},
    "resourceslices": {
        "spec": {
            "driver": "d.example.com",
            "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "d"}],
        }
    },
    "storageversionmigrations": {"spec": {"resource": {"group": "apps", "resource": "deployments"}}},
    # Questions, which are answered and not stored.
    "bindings": {"target": {"kind": "Node", "name": "n"}},
    "selfsubjectreviews": {},
    "tokenreviews": {"spec": {"token": "t"}},
    "localsubjectaccessreviews": {
        "spec": {"user": "u", "resourceAttributes": {"namespace": "default", "verb": "get", "resource": "pods"}}
    },
    "selfsubjectaccessreviews": {"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}},
    "selfsubjectrulesreviews": {"spec": {"namespace": "default"}},
    "subjectaccessreviews": {"spec": {"user": "u", "nonResourceAttributes": {"verb": "get", "path": "/"}}},
}
NAMES = {
    "deviceclasses": "every.example.com",
    "csidrivers": "every.example.com",
    "customresourcedefinitions": "things.every.example.com",
    "apiservices": "v9.every.example.com",
    "ipaddresses": "192.168.77.77",
}


def sample(kind: Kind) -> Object:
    """An object of the kind with no more than it needs."""
    needs = NEEDS.get((kind.group, kind.plural), NEEDS.get(kind.plural, {}))
    if kind.group == "certificates.k8s.io":
        needs = {"spec": _signed(kind.plural)}
    meta = {"name": NAMES.get(kind.plural, "every"), "annotations": {"a": "b"}}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **copy.deepcopy(needs)}


@functools.cache
def _signed(plural: str) -> Object:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "every")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    if plural == "certificatesigningrequests":
        pem = request.public_bytes(serialization.Encoding.PEM)
        return {
            "request": base64.b64encode(pem).decode(),
            "signerName": "example.com/every",
            "usages": ["digital signature", "client auth"],
        }
    if plural == "podcertificaterequests":
        empty = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        der = empty.public_bytes(serialization.Encoding.DER)
        names = {f"{part}{field}": f"every{field.lower()}" for part in ("pod", "node") for field in ("Name", "UID")}
        account = {"serviceAccountName": "default", "serviceAccountUID": "u"}
        stub = base64.b64encode(der).decode()
        return {"signerName": "example.com/every", **names, **account, "stubPKCS10Request": stub}
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return {"trustBundle": made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()}


# --- as full as can be

# What is tried for a value of a type, until one is allowed.
_STRINGS = ("every", "Always", "10.1.2.3", "TCP", "/every", "example.com/every", "1h")
_TRIED: dict[str, tuple[Any, ...]] = {
    "string": _STRINGS,
    "bytes": ("AQID",),
    "integer": (1, 0, 3600),
    "number": (1.5,),
    "boolean": (True, False),
    "quantity": ("1", "100m"),
    "time": ("2026-01-02T03:04:05Z",),
    "micro-time": ("2026-01-02T03:04:05.000006Z",),
    "int-or-string": (1, "50%"),
    "any": ({"a": 1},),
}
DEPTH_MAX = 6
TRIALS_MAX = 500  # a kind
# What the server owns, what admission or allocation would have a say in, and what names other objects.
_FIXED = {"apiVersion", "kind", "status", "managedFields", "uid", "resourceVersion", "ownerReferences", "name"}
_FIXED |= {"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"}
_FIXED |= {"namespace", "generateName", "priorityClassName", "runtimeClassName", "clusterIPs"}
_FIXED |= {"clusterIP", "priority"}


def full(kind: Kind, body: Object, schema: Schema) -> Object:
    """`body` with every field (down to some depth) that the rules of its kind allow beside those it has already."""
    type = schema.for_kind(kind.gvk)
    assert type is not None
    trial = _Trial(kind, body, type)
    trial.fill(trial.body, type, 0)
    return trial.body


class _Trial:
    def __init__(self, kind: Kind, body: Object, type: Type) -> None:
        self.kind, self.type, self.body, self.left = kind, type, copy.deepcopy(body), TRIALS_MAX

    def fill(self, holder: Object, type: Type, depth: int) -> None:
        for name, field in type.fields.items():
            if name in _FIXED or field.disabled or not field.number or self.left <= 0:
                continue
            if name not in holder:
                self.add(holder, name, field.type, depth)
            value = holder.get(name)
            if isinstance(value, dict) and depth < DEPTH_MAX:
                self.fill(value, field.type, depth + 1)
            elif isinstance(value, list) and field.type.items is not None and depth < DEPTH_MAX:
                for item in value:
                    if isinstance(item, dict):
                        self.fill(item, field.type.items, depth + 1)

    def add(self, holder: Object, name: str, type: Type, depth: int) -> None:
        for value in self.candidates(type, depth):
            holder[name] = value
            self.left -= 1
            if self.allowed():
                return
        del holder[name]

    def candidates(self, type: Type, depth: int) -> list[Any]:
        if type.kind == "object":
            if depth >= DEPTH_MAX:
                return [{}]
            required = {n: self.candidates(f.type, depth + 1)[0] for n, f in type.fields.items() if n in type.required}
            return [required]
        if type.kind == "list" and type.items is not None:
            return [[value] for value in self.candidates(type.items, depth + 1)[:2]]
        if type.kind == "map" and type.items is not None:
            return [{"every": value} for value in self.candidates(type.items, depth + 1)[:1]]
        return list(_TRIED.get(type.kind, ("every",)))

    def allowed(self) -> bool:
        obj = copy.deepcopy(self.body)
        obj["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
        if self.kind.namespaced:
            obj["metadata"]["namespace"] = "default"
        try:
            obj, _ = decode(obj, self.type, "Strict", kind=self.kind.kind)
        except ApiError:
            return False
        self.kind.default(obj)
        obj = self.kind.to_storage(obj)
        self.kind.hub.prepare_create(obj)
        rule = self.kind.hook("validate_request") if self.kind.hub is not self.kind else None
        return not self.kind.hub.validate_create(obj) and not (rule and rule(obj))
