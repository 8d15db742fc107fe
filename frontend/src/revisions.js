// Earlier pod templates of a Deployment (its ReplicaSets), a StatefulSet or a DaemonSet (their ControllerRevisions):
// [{uid, revision, name, created, template, replicas, back}], newest first. `back` is the patch that returns to it.

import { get } from "./api.js";

const REVISION = "deployment.kubernetes.io/revision";
const HASH = "pod-template-hash";

export const hasRevisions = (kind) => kind.group === "apps" && ["deployments", "statefulsets", "daemonsets"].includes(kind.plural);
export const keptIn = (kind) => ({ group: "apps", plural: kind.plural === "deployments" ? "replicasets" : "controllerrevisions" });

export async function revisionsOf(kind, object) {
  const { namespace, uid } = object.metadata;
  const { items } = await get(`/apis/apps/v1/namespaces/${namespace}/${keptIn(kind).plural}`);
  const own = items.filter((item) => item.metadata.ownerReferences?.some((o) => o.uid === uid));
  const found = own.map((item) => (kind.plural === "deployments" ? fromSet(item, uid) : fromRevision(item, uid)));
  return found.sort((a, b) => b.revision - a.revision);
}

export function isCurrent(kind, object, one, newest) {
  if (kind.plural === "deployments") return one.revision === Number(object.metadata.annotations?.[REVISION]);
  if (object.status?.updateRevision) return one.name === object.status.updateRevision;
  return one === newest;
}

// The template as its Deployment had it: without the label that tells its ReplicaSets apart.
function fromSet(set, uid) {
  const { [HASH]: hash, ...labels } = set.spec.template.metadata?.labels || {};
  const template = { ...set.spec.template, metadata: { ...set.spec.template.metadata, labels } };
  return {
    ...about(set),
    revision: Number(set.metadata.annotations?.[REVISION]),
    template,
    replicas: set.status?.replicas || 0,
    back: {
      body: [{ op: "test", path: "/metadata/uid", value: uid }, { op: "replace", path: "/spec/template", value: template }],
      type: "application/json-patch+json",
    },
  };
}

// A ControllerRevision's data is itself the patch that its owner was made from.
function fromRevision(item, uid) {
  const { $patch, ...template } = item.data.spec.template;
  return {
    ...about(item),
    revision: item.revision,
    template,
    back: { body: { ...item.data, metadata: { uid } }, type: "application/strategic-merge-patch+json" },
  };
}

const about = ({ metadata }) => ({ uid: metadata.uid, name: metadata.name, created: metadata.creationTimestamp });
