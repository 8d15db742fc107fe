"""Creates recorded from a real kube-apiserver (v1.20) get the same answer from the rules here, in process."""

import pytest

from tests.api.replay import compare, exchanges, golden, replayable

# Scenario prefix -> why v1.37 (or this replay without a server) differs.
DIFFERENT = {
    "kind/configmap-generate": "a generated name",
    "invalid/configmap-generate/unknown": "a generated name",
    "kind/service-nodeport": "the port is taken: the allocator's business",
    "invalid/service-nodeport/badname spec.externalTrafficPolicy": "NotSupported since v1.26, Invalid before",
    "invalid/limitrange/empty metadata": "a random name",
    "invalid/limitrange/null metadata": "a random name",
    "kind/pv": "the finalizer is an admission plugin's",
    "invalid/pv/unknown": "the finalizer is an admission plugin's",
    "kind/node": "the taint is an admission plugin's",
    "invalid/node/unknown": "the taint is an admission plugin's",
    "invalid/node/drop metadata.labels": "the taint is an admission plugin's",
    "invalid/controllerrevision/type data": "v1.37 wants an object",
    "kind/job": "the selector's key is batch.kubernetes.io/controller-uid since v1.27",
    "invalid/job-badrestart/long metadata.name": "more labels carry the name since v1.27",
    "invalid/clusterrole/drop rules.0": "an empty list was written as null",
}


def test_recorded_creates_get_the_recorded_answers() -> None:
    if not (golden() / "exchanges.jsonl.gz").exists():
        pytest.skip("no golden exchanges on this machine (PEAVINE_GOLDEN)")
    found = {}
    count = 0
    for exchange in filter(replayable, exchanges()):
        count += 1
        differences = compare(exchange)
        if differences and not exchange["scenario"].startswith(tuple(DIFFERENT)):
            found[exchange["scenario"]] = differences
    assert count > 700
    assert found == {}
