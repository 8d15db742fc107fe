"""Every stored kind lives through everything that a client can do with an object."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

from peavine.api.kind import Kind
from tests.apiserver.inside import Client, serving

LABELS = {"app": "web"}
POD: dict[str, Any] = {"containers": [{"name": "c", "image": "i"}]}
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

# Plural -> what an object needs beside its name; None: the server makes or checks it in a way that does not fit here.
NEEDS: dict[str, dict[str, Any] | None] = {
    "bindings": None,
    "pods": {"spec": POD},
    "podtemplates": {"template": TEMPLATE},
    "replicationcontrollers": {"spec": {"selector": LABELS, "template": TEMPLATE}},
    "services": {"spec": {"ports": [{"port": 80}]}},
    "limitranges": {"spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}},
    "resourcequotas": {"spec": {"hard": {"secrets": "100"}}},
    "persistentvolumeclaims": {"spec": CLAIM},
    "persistentvolumes": {"spec": VOLUME},
    "events": {"involvedObject": {"namespace": "default", "kind": "Pod", "name": "p"}, "type": "Normal"},
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
    "customresourcedefinitions": None,  # see tests/apiserver/customresources
    "apiservices": None,  # see test_aggregation
    "ingresses": {"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}},
    "ingressclasses": {"spec": {"controller": "example.com/c"}},
    "ipaddresses": None,  # named by an address
    "networkpolicies": {"spec": {"podSelector": {}}},
    "servicecidrs": {"spec": {"cidrs": ["10.200.0.0/24"]}},
    "endpointslices": {"addressType": "IPv4", "endpoints": [{"addresses": ["10.1.2.3"]}]},
    "poddisruptionbudgets": {"spec": {"minAvailable": 1, "selector": SELECTOR}},
    "clusterrolebindings": {"roleRef": ROLE},
    "rolebindings": {"roleRef": ROLE},
    "certificatesigningrequests": None,  # holds a signed request
    "clustertrustbundles": None,
    "podcertificaterequests": None,
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
}
SAMPLE_BY_GROUP: dict[tuple[str, str], dict[str, Any] | None] = {
    ("events.k8s.io", "events"): {
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/c",
        "reportingInstance": "i",
        "action": "Test",
        "reason": "Test",
        "type": "Normal",
        "regarding": {"namespace": "default", "kind": "Pod", "name": "p"},
    },
}
TYPES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


def sample(kind: Kind) -> dict[str, Any] | None:
    needs = SAMPLE_BY_GROUP.get((kind.group, kind.plural), NEEDS.get(kind.plural, {}))
    if needs is None:
        return None
    name = "every.example.com" if kind.plural in ("deviceclasses", "csidrivers") else "every"
    meta = {"name": name, "annotations": {"a": "b"}}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **copy.deepcopy(needs)}


async def live_through_everything(api: Client, kind: Kind, body: dict[str, Any]) -> None:
    base = kind.gvr.path("default" if kind.namespaced else None)
    path = f"{base}/{body['metadata']['name']}"
    start = (await api("GET", base)).json["metadata"]["resourceVersion"]
    assert (await api("POST", f"{base}?dryRun=All&fieldValidation=Strict", body)).status == 201
    assert (await api("GET", path)).status == 404
    made = await api("POST", f"{base}?fieldValidation=Strict", body)
    assert made.status == 201, made.body
    assert (await api("POST", base, body)).status in (409, 422)
    again = (await api("GET", path)).json
    assert again["metadata"]["uid"] == made.json["metadata"]["uid"]
    same = await api("PUT", path, again)
    assert same.status == 200, same.body
    assert same.json["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]

    for field, accept in (
        ("kind", "application/json;as=Table;v=v1;g=meta.k8s.io"),
        ("metadata", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"),
    ):
        assert (await api("GET", path, headers={"Accept": accept})).json[field]
    proto = await api("GET", path, headers={"Accept": "application/vnd.kubernetes.protobuf"})
    assert proto.status == 200 and proto.body.startswith(b"k8s\0")
    kept = await api("PUT", path, proto.body, {"Content-Type": "application/vnd.kubernetes.protobuf"})
    assert kept.status == 200, kept.body
    assert kept.json["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"], (kept.json, again)
    yaml = await api("GET", path, headers={"Accept": "application/yaml"})
    kept = await api("PUT", path, yaml.body, {"Content-Type": "application/yaml"})
    assert kept.json["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]

    applied = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"labels": {"apply": "1"}}}
    for patch, document in (
        ("merge", {"metadata": {"labels": {"merge": "1"}}}),
        ("json", [{"op": "add", "path": "/metadata/labels/json", "value": "1"}]),
        ("strategic", {"metadata": {"labels": {"strategic": "1"}}}),
        ("apply", applied),
    ):
        query = "?fieldManager=test" if patch == "apply" else ""
        answer = await api("PATCH", path + query, document, {"Content-Type": TYPES[patch]})
        assert answer.status == 200 and answer.json["metadata"]["labels"][patch] == "1", (patch, answer.body)
    managers = [(e["manager"], e["operation"]) for e in answer.json["metadata"]["managedFields"]]
    assert ("test", "Apply") in managers
    selected = (await api("GET", f"{base}?labelSelector=apply%3D1,merge")).json["items"]
    assert [item["metadata"]["name"] for item in selected] == [body["metadata"]["name"]]

    gone = await api("DELETE", f"{path}?propagationPolicy=Background&gracePeriodSeconds=0")
    assert gone.status == 200, gone.body
    left = await api("GET", path)
    if left.status == 200:  # something protects it: take its finalizers away
        assert left.json["metadata"]["deletionTimestamp"]
        assert (
            await api("PATCH", path, {"metadata": {"finalizers": None}}, {"Content-Type": TYPES["merge"]})
        ).status == 200
        assert (await api("GET", path)).status == 404
    async with api.watch(
        f"{base}?watch=1&resourceVersion={start}&fieldSelector=metadata.name%3D{body['metadata']['name']}"
    ) as events:
        seen = []
        while not seen or seen[-1] != "DELETED":
            type, _ = await events.next()
            seen.append(type)
    assert seen[0] == "ADDED" and seen.count("MODIFIED") >= 4 and seen.count("DELETED") == 1


def test_every_stored_kind_is_created_read_changed_watched_and_deleted(tmp_path):
    async def main():
        settings = {"disable_admission_plugins": ("ServiceAccount",), "enable_aggregation": False}
        async with serving(tmp_path, **settings) as api:
            problems, walked = [], 0
            for kind in list(api.server.registry.kinds()):
                body = sample(kind) if kind.plural and not kind.virtual else None
                if body is None:
                    continue
                if kind.plural == "namespaces":
                    continue  # goes only when its controller has emptied it: see test_objects
                try:
                    await live_through_everything(api, kind, body)
                    walked += 1
                except (AssertionError, KeyError) as error:
                    problems.append(f"{kind}: {str(error)[:600]}")
            assert not problems, "\n".join(problems)
            assert walked > 50

    asyncio.run(main())
