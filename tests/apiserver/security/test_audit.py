"""Audit: what is written down, when, and what never is."""

import asyncio
import json
import stat

import pytest

from peavine.apiserver.audit import Auditor, LogFile, Policy, load_policy
from peavine.apiserver.audit.backends import BUFFER_EVENTS_MAX, Webhook
from peavine.apiserver.audit.policy import PolicyError
from peavine.apiserver.authentication import User
from peavine.base.clock import SimulatedClock
from tests.apiserver.security.fakes import request

JANE = User("jane", groups=("dev",))


class Kept:
    def __init__(self):
        self.events = []

    def write(self, event):
        self.events.append(event)

    def close(self):
        pass


def policy(*rules, **more):
    return Policy({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules), **more})


def record(rules, body=b"", answer=b"", code=200, **kwargs):
    kept = Kept()
    info = request(**kwargs)
    info.user = JANE
    info.audit_annotations["authorization.k8s.io/decision"] = "allow"
    entry = Auditor(policy(*rules), [kept]).begin(info)
    if entry is not None:
        entry.request_body = body
        entry.complete(code, answer)
    return kept.events


POD = b'{"kind":"Pod","metadata":{"name":"p"}}'


def test_each_level_writes_what_it_says():
    assert record([{"level": "None"}]) == []
    arrival, answer = record([{"level": "Metadata"}], POD, POD, path="/api/v1/namespaces/n/pods/p")
    assert (arrival["stage"], answer["stage"]) == ("RequestReceived", "ResponseComplete")
    assert answer["objectRef"] == {"resource": "pods", "namespace": "n", "name": "p", "apiVersion": "v1"}
    assert answer["user"] == {"username": "jane", "groups": ["dev"]} and answer["responseStatus"]["code"] == 200
    assert answer["annotations"] == {"authorization.k8s.io/decision": "allow"}
    assert "requestObject" not in answer and arrival["auditID"] == answer["auditID"]
    answer = record([{"level": "Request"}], POD, POD)[1]
    assert answer["requestObject"]["kind"] == "Pod" and "responseObject" not in answer
    assert "responseObject" in record([{"level": "RequestResponse"}], POD, POD)[1]


def test_the_first_rule_that_matches_decides():
    rules = [
        {"level": "None", "users": ["jane"], "resources": [{"group": "", "resources": ["pods/log", "configmaps"]}]},
        {"level": "None", "nonResourceURLs": ["/healthz*"]},
        {"level": "Request", "verbs": ["delete"], "userGroups": ["dev"], "namespaces": ["n"]},
        {"level": "Metadata", "omitStages": ["RequestReceived"]},
    ]
    assert record(rules, path="/api/v1/namespaces/n/pods/p/log") == []
    assert record(rules, path="/healthz/ping") == []
    assert [e["level"] for e in record(rules, path="/api/v1/namespaces/n/pods/p", method="DELETE")] == ["Request"] * 2
    assert [e["stage"] for e in record(rules)] == ["ResponseComplete"]


def test_secrets_and_tokens_are_never_written_whatever_the_policy_says():
    secret = {
        "kind": "Secret",
        "data": {"k": "aGlkZGVu"},
        "stringData": {"k": "hidden"},
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "hidden", "other": "kept"}},
    }
    listed = {"kind": "SecretList", "items": [secret]}
    review = {"kind": "TokenReview", "spec": {"token": "hidden"}}
    issued = {"kind": "TokenRequest", "status": {"token": "hidden"}}
    patch = {"data": {"k": "aGlkZGVu"}}
    for body, path in (
        (secret, "/api/v1/namespaces/n/secrets"),
        (listed, "/api/v1/namespaces/n/secrets"),
        (patch, "/api/v1/namespaces/n/secrets/s"),
        (review, "/apis/authentication.k8s.io/v1/tokenreviews"),
        (issued, "/api/v1/namespaces/n/serviceaccounts/x/token"),
    ):
        raw = json.dumps(body).encode()
        text = json.dumps(record([{"level": "RequestResponse"}], raw, raw, path=path, method="POST"))
        assert "hidden" not in text and "aGlkZGVu" not in text


def test_managed_fields_are_left_out_where_the_policy_says():
    body = b'{"kind":"Pod","metadata":{"name":"p","managedFields":[{}]}}'
    event = record([{"level": "Request", "omitManagedFields": True}], body)[1]
    assert event["requestObject"]["metadata"] == {"name": "p"}


def test_a_failure_is_written_with_its_reason():
    body = b'{"kind":"Status","status":"Failure","reason":"NotFound","message":"gone","code":404}'
    status = record([{"level": "Metadata"}], answer=body, code=404)[1]["responseStatus"]
    assert status == {"metadata": {}, "code": 404, "status": "Failure", "reason": "NotFound", "message": "gone"}


def test_impersonation_shows_both():
    kept, info = Kept(), request()
    info.user, info.notes["impersonator"] = JANE, User("admin")
    Auditor(policy({"level": "Metadata"}), [kept]).begin(info)
    assert kept.events[0]["user"]["username"] == "admin"
    assert kept.events[0]["impersonatedUser"]["username"] == "jane"


def test_policies_that_say_nonsense_are_refused(tmp_path):
    for rules in (
        [],
        [{"level": "All"}],
        [{"level": "None", "omitStages": ["x"]}],
        [{"level": "None", "nonResourceURLs": ["/"], "namespaces": ["n"]}],
    ):
        with pytest.raises(PolicyError):
            policy(*rules)
    (tmp_path / "p.yaml").write_text("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n")
    assert load_policy(tmp_path / "p.yaml").rules[0][1].level == "Metadata"
    assert load_policy().rules


def test_the_log_is_private_rotates_and_forgets(tmp_path):
    clock = SimulatedClock()
    log = LogFile(tmp_path / "logs" / "audit.log", size_mib_max=1, backups_max=2, clock=clock)
    line = {"x": "y" * 300_000}
    for _ in range(14):
        log.write(line)
    log.close()
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) == 3 and files[-1].name == "audit.log"
    assert all(file.stat().st_size <= 1 << 20 for file in files)
    assert stat.S_IMODE((tmp_path / "logs" / "audit.log").stat().st_mode) == 0o600
    assert all(json.loads(text) == line for file in files for text in file.read_text().splitlines())


class Collector:
    """A webhook's server: answers as it is told, then with 200."""

    def __init__(self, *answers):
        self.answers, self.received = list(answers), []

    async def post(self, body):
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        if answer < 300:
            self.received.append([event["n"] for event in json.loads(body)["items"]])
        return answer


def test_the_webhook_gets_events_in_batches_and_again_after_a_failure():
    clock = SimulatedClock()
    collector = Collector(503, ConnectionError("refused"))
    webhook = Webhook(collector, clock)

    async def play():
        task = asyncio.ensure_future(webhook.run())
        for n in range(3):
            webhook.write({"n": n})
        await clock.advance(29)
        assert collector.received == [] and len(collector.answers) == 2  # it waits for more
        await clock.advance(5)
        assert collector.received == [[0, 1, 2]]
        for n in range(401):
            webhook.write({"n": n})
        await clock.advance(1)  # a full batch goes at once
        assert [len(batch) for batch in collector.received[1:]] == [400, 1]
        task.cancel()

    asyncio.run(play())


def test_a_webhook_that_does_not_keep_up_costs_events_and_no_memory():
    webhook = Webhook(Collector(), SimulatedClock())
    for n in range(BUFFER_EVENTS_MAX + 7):
        webhook.write({"n": n})
    assert webhook.dropped == 7
