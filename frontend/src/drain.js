// Emptying a node as kubectl does: no new pods, then evictions. What a PodDisruptionBudget refuses is asked again
// until it is allowed, and a pod counts as gone when it is.

import { call, get } from "./api.js";

const RETRY_MS = 3000;
const POLL_MS = 1000;
const idOf = ({ metadata }) => `${metadata.namespace}/${metadata.name}`;

// {evict, stay: [{pod, why}]}: why is "daemonset", "static", "ended", "orphan" or "emptyDir".
export async function planned(node, force) {
  const { items } = await get("/api/v1/pods", { fieldSelector: `spec.nodeName=${node}` });
  const evict = [];
  const stay = [];
  for (const pod of items) {
    const owner = pod.metadata.ownerReferences?.find((o) => o.controller);
    const ended = ["Succeeded", "Failed"].includes(pod.status?.phase);
    if (pod.metadata.annotations?.["kubernetes.io/config.mirror"]) stay.push({ pod, why: "static" });
    else if (owner?.kind === "DaemonSet" && !ended) stay.push({ pod, why: "daemonset" });
    else if (!owner && !ended && !force) stay.push({ pod, why: "orphan" });
    else if (pod.spec.volumes?.some((v) => v.emptyDir) && !ended && !force) stay.push({ pod, why: "emptyDir" });
    else evict.push(pod);
  }
  return { evict, stay };
}

// Tells `onState({id: words})` as it goes; ends when every pod is gone, or when `signal` aborts.
export async function evictAll(pods, signal, onState) {
  const state = Object.fromEntries(pods.map((pod) => [idOf(pod), "waiting"]));
  const tell = (pod, words) => !signal.aborted && ((state[idOf(pod)] = words), onState({ ...state }));
  onState({ ...state });
  await Promise.all(pods.map((pod) => evict(pod, signal, (words) => tell(pod, words))));
}

async function evict(pod, signal, tell) {
  const { name, namespace, uid } = pod.metadata;
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
  const body = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace }, deleteOptions: { preconditions: { uid } } };
  while (!signal.aborted) {
    try {
      await call("POST", `${path}/eviction`, { body, signal });
      break;
    } catch (error) {
      if (signal.aborted || error.status === 404 || error.status === 409) break;
      // An eviction may be asked for twice: it names the pod's uid.
      if (error.status && error.status !== 429) return tell(error.message);
      tell(error.message);
      await pause(RETRY_MS, signal);
    }
  }
  tell("evicted, ending");
  while (!signal.aborted) {
    const found = await get("/api/v1/namespaces/" + namespace + "/pods", { fieldSelector: `metadata.name=${name}` }, { signal }).catch(() => null);
    if (found && !found.items.some((p) => p.metadata.uid === uid)) return tell("gone");
    await pause(POLL_MS, signal);
  }
}

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
