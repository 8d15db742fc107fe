# ruff: noqa: E501
"""kustomize: what directories become. Where the real kubectl is, both say the same; the numbers here hold without it."""

import pytest
import yaml

from peavine.cli.failures import CliError
from peavine.cli.kustomize.build import build

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: sa
      nodeSelector: {a: b}
      containers:
      - {name: a, image: "nginx:1", envFrom: [{configMapRef: {name: cm}}], env: [{name: A, value: "1"}, {name: CM, value: x}]}
      - {name: b, image: "docker.io/other@sha256:abc", args: [q], command: [old, $(SVC), $(PORT), $(NOPE)]}
      volumes: [{name: v, hostPath: {path: /x}}, {name: s, secret: {secretName: sec}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ports: [{port: 80}], selector: {app: web}}
---
apiVersion: v1
kind: Namespace
metadata: {name: foo}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: sa}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: crb}
subjects:
- {kind: ServiceAccount, name: sa, namespace: default}
- {kind: ServiceAccount, name: default}
- {kind: User, name: u}
roleRef: {kind: ClusterRole, name: cr, apiGroup: rbac.authorization.k8s.io}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: cr}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [sec], verbs: [get]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec: {rules: [{host: h, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: h}
spec: {scaleTargetRef: {kind: Deployment, name: web, apiVersion: apps/v1}, maxReplicas: 2}
---
apiVersion: example.com/v1
kind: Foo
metadata: {name: foo}
spec: {items: [{name: b}, {name: a, w: 2}], list: [y], n: yes}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: inlist, labels: {a: b}}, data: {n: "10", e: ""}}
"""
BASE = {
    "base/kustomization.yaml": """
resources: [web.yaml]
configMapGenerator:
- {name: cm, literals: [a=1, "b='q'"], files: [f.txt, k=f.txt]}
secretGenerator:
- {name: sec, literals: [pw=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]}
""",
    "base/web.yaml": WEB,
    "base/f.txt": "hello\n",
}
# Name -> files; the directory "top" is built.
BUILDS = {
    "base": {"top/kustomization.yaml": "resources: [../base]\n"},
    "names": {
        "top/kustomization.yaml": "{namespace: prod, namePrefix: p-, nameSuffix: -s, resources: [../base], "
        "images: [{name: nginx, newTag: '2'}, {name: docker.io/other, newName: x, digest: 'sha256:d'}], "
        "replicas: [{name: web, count: 4}], labels: [{pairs: {z: z}}], commonAnnotations: {note: nn}, commonLabels: {t: u}, "
        "configMapGenerator: [{name: cm, behavior: merge, literals: [a=2]}], secretGenerator: [{name: sec, behavior: replace, "
        "literals: [other=1]}]}",
    },
    "two layers": {
        "top/kustomization.yaml": "{namePrefix: a-, resources: [mid, ../base]}",
        "top/mid/kustomization.yaml": "{namePrefix: b-, nameSuffix: -m, resources: [d.yaml], configMapGenerator: [{name: cm, literals: [x=y]}]}",
        "top/mid/d.yaml": "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i, envFrom: [{configMapRef: {name: cm}}]}]}}",
    },
    "patches": {
        "top/kustomization.yaml": """
resources: [../base]
patches:
- patch: |
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web}
    spec:
      template:
        spec:
          containers:
          - {name: side, image: busybox}
          - {name: b, args: null, command: [z]}
          volumes: [{name: v, emptyDir: {}, hostPath: null}]
          nodeSelector: {$patch: replace, q: r}
- patch: |
    apiVersion: example.com/v1
    kind: Foo
    metadata: {name: foo}
    spec: {items: [{name: a, v: 1}], list: [x]}
- patch: |
    $patch: delete
    apiVersion: v1
    kind: Service
    metadata: {name: web}
- path: p.json
  target: {kind: ConfigMap, name: "in.*", labelSelector: "a=b"}
- target: {kind: Deployment}
  patch: |-
    - {op: replace, path: /spec/template/spec/containers/0/image, value: "json:1"}
    - {op: add, path: /metadata/annotations, value: {x: "1"}}
""",
        "top/p.json": '[{"op":"add","path":"/data/new","value":"v"}]',
    },
    "components": {
        "top/kustomization.yaml": """
resources: [../base]
components: [c1]
namePrefix: pre-
generatorOptions: {labels: {g: h}, disableNameSuffixHash: true, immutable: true}
configMapGenerator:
- {name: envs, envs: [e.env], options: {annotations: {o: p}}}
labels:
- {pairs: {l: m}, includeSelectors: true}
- {pairs: {t: u}, includeTemplates: true}
""",
        "top/e.env": "A=1\n# c\nB=two words\nEMPTY=\nHOME\n",
        "top/c1/kustomization.yaml": """
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
configMapGenerator:
- {name: comp, literals: [x=y]}
patches:
- patch: '[{"op":"add","path":"/spec/paused","value":true}]'
  target: {kind: Deployment}
replicas: [{name: web, count: 7}]
""",
    },
    "replacements": {
        "top/kustomization.yaml": """
resources: [../base]
nameSuffix: -x
replacements:
- source: {kind: ConfigMap, name: inlist}
  targets:
  - select: {kind: Deployment}
    fieldPaths: ["spec.template.spec.containers.[name=a].env.[name=CM].value", "metadata.annotations.cm"]
    options: {create: true}
- source: {kind: Service, name: web, fieldPath: "spec.ports.0.port"}
  targets:
  - select: {kind: Deployment}
    fieldPaths: ["spec.template.spec.containers.0.image"]
    options: {delimiter: ":", index: 1}
vars:
- {name: SVC, objref: {kind: Service, name: web, apiVersion: v1}}
- {name: PORT, objref: {kind: Service, name: web, apiVersion: v1}, fieldref: {fieldpath: "spec.ports[0].port"}}
""",
    },
    "older fields": {
        "top/kustomization.yaml": """
bases: [../base]
patchesStrategicMerge:
- s.yaml
patchesJson6902:
- target: {group: apps, version: v1, kind: Deployment, name: web}
  path: j.yaml
""",
        "top/s.yaml": "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 9}}",
        "top/j.yaml": "- {op: add, path: /spec/minReadySeconds, value: 3}",
    },
    "no file": {"top/kustomization.yaml": "resources: [nope.yaml]"},
    "no directory": {"top/x.txt": "nothing here"},
    "unknown field": {"top/kustomization.yaml": "foo: 1"},
    "empty": {"top/kustomization.yaml": "{}"},
    "wrong type": {"top/kustomization.yaml": "{resources: [../base], commonAnnotations: {a: true}}"},
    "outside": {"top/kustomization.yaml": "resources: [../base/web.yaml]"},
    "twice": {"top/kustomization.yaml": "resources: [a.yaml, b.yaml]",
              "top/a.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}",
              "top/b.yaml": "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}"},
}  # fmt: skip
ERRORS_IN_OTHER_WORDS = {"twice"}  # upstream's message nests the same reason once more


def lay_out(directory, name):
    for path, text in {**BASE, **BUILDS[name]}.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory / "top"


def built(directory, **files):
    for path, text in files.items():
        (directory / path.replace("__", ".")).write_text(text)
    return {f"{o['kind']}/{o['metadata']['name']}": o for o in build(str(directory))}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDS)
def test_a_directory_becomes_what_upstream_makes_of_it(name, tmp_path, theirs, ours):
    top = lay_out(tmp_path, name)
    real, mine = (kubectl(f"kustomize {top}") for kubectl in (theirs, ours))
    assert (mine.code, mine.out) == (real.code, real.out)
    if name not in ERRORS_IN_OTHER_WORDS:
        assert mine.err == real.err


@pytest.mark.slow
def test_apply_takes_a_kustomization(tmp_path, ours):
    top = lay_out(tmp_path, "two layers")
    (top / "kustomization.yaml").write_text("{namePrefix: kz-, configMapGenerator: [{name: cm, literals: [x=y]}]}")
    assert ours(f"apply -k {top}").out == "configmap/kz-cm-6gc9d749f7 created\n"
    assert ours(f"get -k {top} -o name").out == "configmap/kz-cm-6gc9d749f7\n"
    assert ours(f"delete -k {top}").out == 'configmap "kz-cm-6gc9d749f7" deleted\n'


def test_a_name_ends_in_the_hash_of_the_content(tmp_path):
    found = built(tmp_path, kustomization__yaml="configMapGenerator: [{name: comp, literals: [x=y]}]")
    assert list(found) == ["ConfigMap/comp-6gc9d749f7"]


def test_references_follow_names(tmp_path):
    top = lay_out(tmp_path, "names")
    found = {o["kind"]: o for o in build(str(top))}
    spec = found["Deployment"]["spec"]["template"]["spec"]
    names = {f"{o['kind']}/{o['metadata']['name']}" for o in build(str(top))}
    assert f"ConfigMap/{spec['containers'][0]['envFrom'][0]['configMapRef']['name']}" in names
    assert f"Secret/{spec['volumes'][1]['secret']['secretName']}" in names
    assert found["ClusterRoleBinding"]["subjects"][0] == {
        "kind": "ServiceAccount",
        "name": "p-sa-s",
        "namespace": "prod",
    }
    assert found["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] == "p-web-s"


@pytest.mark.parametrize(
    "text",
    ["resources: ['https://example.com/x.yaml']", "resources: ['github.com/a/b']", "resources: ['git@example.com:a/b.git']",
     "components: ['https://example.com/x']", "helmCharts: [{name: a}]", "transformers: [t.yaml]"],
)  # fmt: skip
def test_nothing_is_fetched_and_nothing_is_run(tmp_path, text):
    (tmp_path / "kustomization.yaml").write_text(text)
    with pytest.raises(CliError, match=r"fetched|run from here"):
        build(str(tmp_path))


def test_a_cycle_is_an_error(tmp_path):
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kustomization.yaml").write_text(f"resources: [../{other}]")
    with pytest.raises(CliError, match="cycle detected"):
        build(str(tmp_path / "a"))


def test_words_of_older_yaml_stay_text(tmp_path):
    found = built(
        tmp_path,
        kustomization__yaml="resources: [a.yaml]",
        a__yaml="{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {y: yes, n: on}}",
    )
    assert found["ConfigMap/a"]["data"] == {"y": "yes", "n": "on"}
    assert yaml.safe_load("y: yes") == {"y": True}
