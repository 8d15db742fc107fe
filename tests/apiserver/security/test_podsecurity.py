"""The Pod Security Standards: every check, in every kind of container, in three modes."""

import copy

import pytest

from peavine.apiserver.admission import build_chain
from peavine.apiserver.admission.podsecurity_checks import evaluate
from tests.apiserver.security.fakes import Objects
from tests.apiserver.security.test_admission import refusal, review, run

GOOD = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {"name": "c", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
    ],
}


def pod(kind="containers", annotations=None, container=None, context=None, pod_context=None, **spec):
    """A pod that satisfies `restricted`, but for what is given."""
    made = copy.deepcopy(GOOD)
    if container or context:
        extra = {**copy.deepcopy(GOOD["containers"][0]), "name": "x", **(container or {})}
        extra["securityContext"] = {**extra["securityContext"], **(context or {})}
        made[kind] = [*made.get(kind, []), extra]
    made["securityContext"].update(pod_context or {})
    made.update(spec)
    return {"metadata": {"name": "p", "namespace": "team", "annotations": annotations or {}}, "spec": made}


def found(level, obj, version=(1, 37)):
    return [f"{reason} ({detail})" for reason, detail in evaluate(level, version, obj["metadata"], obj["spec"])]


BASELINE = [
    ({"context": {"privileged": True}}, 'privileged (container "x" must not set securityContext.privileged=true)'),
    (
        {"context": {"capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}}},
        'non-default capabilities (container "x" must not include "NET_RAW" in securityContext.capabilities.add)',
    ),
    (
        {"context": {"procMount": "Unmasked"}},
        'procMount (container "x" must not set securityContext.procMount to "Unmasked")',
    ),
    (
        {"context": {"seccompProfile": {"type": "Unconfined"}}},
        'seccompProfile (container "x" must not set securityContext.seccompProfile.type to "Unconfined")',
    ),
    (
        {"context": {"appArmorProfile": {"type": "Unconfined"}}},
        'forbidden AppArmor profile (container "x" must not set AppArmor profile type to "Unconfined")',
    ),
    (
        {"context": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}},
        'seLinuxOptions (container "x" set forbidden securityContext.seLinuxOptions: type "spc_t"; '
        "user may not be set)",
    ),
    (
        {"context": {"windowsOptions": {"hostProcess": True}}},
        'hostProcess (container "x" must not set securityContext.windowsOptions.hostProcess=true)',
    ),
    ({"container": {"ports": [{"hostPort": 80}]}}, 'hostPort (container "x" uses hostPort 80)'),
    (
        {"container": {"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}},
        'probe or lifecycle host (container "x" uses probe or lifecycle host "10.0.0.1")',
    ),
]
BASELINE_POD = [
    ({"hostNetwork": True, "hostPID": True}, "host namespaces (hostNetwork=true, hostPID=true)"),
    ({"volumes": [{"name": "v", "hostPath": {}}]}, 'hostPath volumes (volume "v")'),
    ({"pod_context": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}},
     "forbidden sysctls (kernel.msgmax)"),
    ({"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}},
     'forbidden AppArmor profile (annotation container.apparmor.security.beta.kubernetes.io/c="unconfined" must not '
     'set AppArmor profile type to "unconfined")'),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
@pytest.mark.parametrize(("what", "finding"), BASELINE)
def test_baseline_checks_every_kind_of_container(kind, what, finding):
    assert found("baseline", pod(kind, **what)) == [finding]
    assert found("privileged", pod(kind, **what)) == []


@pytest.mark.parametrize(("what", "finding"), BASELINE_POD)
def test_baseline_checks_the_pod(what, finding):
    assert found("baseline", pod(**what)) == [finding]


RESTRICTED = [
    ({"context": {"allowPrivilegeEscalation": True}},
     'allowPrivilegeEscalation != false (container "x" must set securityContext.allowPrivilegeEscalation=false)'),
    ({"context": {"capabilities": {"drop": ["ALL"], "add": ["CHOWN", "NET_BIND_SERVICE"]}}},
     'unrestricted capabilities (container "x" must not include "CHOWN" in securityContext.capabilities.add)'),
    ({"context": {"runAsNonRoot": False}},
     'runAsNonRoot != true (container "x" must not set securityContext.runAsNonRoot=false)'),
    ({"context": {"runAsUser": 0}}, 'runAsUser=0 (container "x" must not set runAsUser=0)'),
    ({"context": {"seccompProfile": {"type": "Unconfined"}}},
     'seccompProfile (container "x" must not set securityContext.seccompProfile.type to "Unconfined")'),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["containers", "initContainers", "ephemeralContainers"])
@pytest.mark.parametrize(("what", "finding"), RESTRICTED)
def test_restricted_checks_every_kind_of_container(kind, what, finding):
    assert found("restricted", pod(kind, **what)) == [finding]


def test_restricted_wants_everything_said():
    bare = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    assert found("restricted", bare) == [
        'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)',
        'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"])',
        'runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)',
        'seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or '
        '"Localhost")',
    ]
    assert found("baseline", bare) == []
    assert found("restricted", pod()) == []


def test_restricted_volumes_are_those_without_a_way_out():
    volumes = [{"name": "a", "hostPath": {}}, {"name": "b", "nfs": {}}, {"name": "c", "emptyDir": {}}]
    assert found("restricted", pod(volumes=volumes)) == [
        'restricted volume types (volumes "a", "b" use restricted volume types "hostPath", "nfs")'
    ]


def test_older_versions_hold_pods_to_what_they_knew():
    sysctl = pod(pod_context={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]})
    assert found("baseline", sysctl) == [] and len(found("baseline", sysctl, (1, 31))) == 1
    probe = pod(container={"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}})
    assert found("baseline", probe, (1, 33)) == []
    windows = pod(os={"name": "windows"}, context={"allowPrivilegeEscalation": True})
    assert found("restricted", windows, (1, 37)) == [] and found("restricted", windows, (1, 24))


@pytest.fixture
def objects():
    made = Objects()
    made.put(
        "",
        "serviceaccounts",
        {"metadata": {"name": "default", "namespace": "team"}, "automountServiceAccountToken": False},
    )
    return made


def labelled(objects, **labels):
    labels = {f"pod-security.kubernetes.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    return objects.put("", "namespaces", {"metadata": {"name": "team", "labels": labels}})


def test_a_namespace_enforces_its_level(objects):
    labelled(objects, enforce="baseline")
    chain = build_chain(objects, objects)
    assert refusal(chain, review(pod(hostNetwork=True))).message == (
        'pods "p" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    )
    update = pod("ephemeralContainers", context={"privileged": True}, serviceAccountName="default")
    req = review(update, operation="UPDATE", old=pod(), subresource="ephemeralcontainers")
    assert "violates PodSecurity" in refusal(chain, req).message
    run(chain, review(pod()))


def test_a_namespace_warns_and_notes_without_refusing(objects):
    labelled(objects, enforce="privileged", warn="restricted", audit="baseline", warn_version="v1.30")
    req = review(pod(hostNetwork=True, context={"runAsUser": 0}))
    run(build_chain(objects, objects), req)
    assert req.warnings == [
        'would violate PodSecurity "restricted:v1.30": host namespaces (hostNetwork=true), '
        'runAsUser=0 (container "x" must not set runAsUser=0)'
    ]
    assert req.annotations["pod-security.kubernetes.io/audit-violations"].startswith(
        'would violate PodSecurity "baseline:latest": host namespaces'
    )
    assert req.annotations["pod-security.kubernetes.io/enforce-policy"] == "privileged:latest"


def test_workloads_are_warned_of_what_their_pods_will_meet(objects):
    labelled(objects, enforce="restricted")
    deployment = {"metadata": {"name": "d"}, "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}
    req = review(deployment, "deployments", "apps")
    run(build_chain(objects, objects), req)
    assert len(req.warnings) == 1 and "would violate PodSecurity" in req.warnings[0]


def test_labels_that_say_nothing_are_refused_and_hold_pods_to_the_strictest(objects):
    chain = build_chain(objects, objects)
    wrong = {"metadata": {"name": "new", "labels": {"pod-security.kubernetes.io/enforce": "strong"}}}
    error = refusal(chain, review(wrong, "namespaces", namespace="new"))
    assert error.code == 422 and "must be one of privileged, baseline, restricted" in error.message
    labelled(objects, enforce="strong")
    assert (
        "violates PodSecurity"
        in refusal(chain, review({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}})).message
    )


def test_a_stricter_namespace_tells_which_pods_would_not_pass(objects):
    old = labelled(objects, enforce="privileged")
    for name in ("a", "b", "c"):
        objects.put(
            "", "pods", {"metadata": {"name": name, "namespace": "team"}, "spec": pod(hostNetwork=name != "c")["spec"]}
        )
    new = copy.deepcopy(old)
    new["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "baseline"
    req = review(new, "namespaces", operation="UPDATE", old=old)
    run(build_chain(objects, objects), req)
    assert req.warnings == [
        'existing pods in namespace "team" violate the new PodSecurity enforce level "baseline:latest"',
        "a (and 1 other pod): host namespaces",
    ]


def test_exemptions_are_noted(objects):
    labelled(objects, enforce="restricted")
    config = {"PodSecurity": {"exemptions": {"namespaces": ["team"]}}}
    req = review(pod(hostNetwork=True))
    run(build_chain(objects, objects, config=config), req)
    assert req.annotations == {"pod-security.kubernetes.io/exempt": "namespace"}
