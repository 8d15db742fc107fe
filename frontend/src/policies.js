// Who may talk to whom by NetworkPolicies, as "Network Policies" of the documentation says: pods that no policy selects
// are open; others let through what some policy allows; both ends must agree. Pods are looked at in groups of equal
// namespace and labels. Pure: everything comes in as objects.

const HASHES = new Set(["pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index", "controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"]);

export function matches(selector, labels = {}) {
  if (!selector) return false;
  for (const [key, value] of Object.entries(selector.matchLabels || {})) if (labels[key] !== value) return false;
  return (selector.matchExpressions || []).every(({ key, operator, values = [] }) => {
    if (operator === "In") return key in labels && values.includes(labels[key]);
    if (operator === "NotIn") return !(key in labels) || !values.includes(labels[key]);
    return operator === "Exists" ? key in labels : !(key in labels);
  });
}

// [{id, namespace, name, labels, pods, ports}]: pods that no selector of labels could tell apart, but for hashes.
export function groupsOf(pods, nameOf) {
  const found = new Map();
  for (const pod of pods) {
    if (pod.spec.hostNetwork) continue; // policies do not hold for the node's own network
    const labels = Object.fromEntries(Object.entries(pod.metadata.labels || {}).filter(([key]) => !HASHES.has(key)).sort());
    const { namespace } = pod.metadata;
    const id = `${namespace} ${JSON.stringify(labels)} ${nameOf(pod)}`;
    if (!found.has(id)) found.set(id, { id, namespace, name: nameOf(pod), labels: pod.metadata.labels || {}, pods: [], ports: pod.spec.containers.flatMap((c) => c.ports || []) });
    found.get(id).pods.push(pod);
  }
  return [...found.values()];
}

export const typesOf = (policy) => policy.spec.policyTypes || ["Ingress", ...(policy.spec.egress ? ["Egress"] : [])];
export const policiesFor = (group, policies, type) =>
  policies.filter((p) => p.metadata.namespace === group.namespace && typesOf(p).includes(type) && matches(p.spec.podSelector || {}, group.labels));

// What policies let a group do in one direction: null is everything, else rules of {peers, ports}, each null for all.
function rulesFor(group, policies, type) {
  const selecting = policiesFor(group, policies, type);
  if (!selecting.length) return null;
  const [rules, peers] = type === "Ingress" ? ["ingress", "from"] : ["egress", "to"];
  return selecting.flatMap((policy) => (policy.spec[rules] || []).map((rule) => ({ namespace: policy.metadata.namespace, peers: rule[peers]?.length ? rule[peers] : null, ports: rule.ports?.length ? rule.ports : null })));
}

function selects(rule, group, namespaces) {
  if (!rule.peers) return true;
  return rule.peers.some((peer) => {
    if (peer.ipBlock) return false;
    const there = peer.namespaceSelector ? matches(peer.namespaceSelector, namespaces.get(group.namespace) || {}) : group.namespace === rule.namespace;
    return there && (!peer.podSelector || matches(peer.podSelector, group.labels));
  });
}

// The ports on which `from` reaches `to`: null for all, [] for none, else [{protocol, port, endPort}].
export function between(from, to, policies, namespaces) {
  const side = (own, other, type) => {
    const rules = rulesFor(own, policies, type);
    if (!rules) return null;
    const open = rules.filter((rule) => selects(rule, other, namespaces));
    return open.some((rule) => !rule.ports) ? null : open.flatMap((rule) => rule.ports.map((port) => numbered(port, to)));
  };
  const out = side(from, to, "Egress");
  const into = side(to, from, "Ingress");
  if (!out || !into) return into || out;
  return out.flatMap((a) => into.map((b) => common(a, b)).filter(Boolean));
}

// A named port is the number that the receiving pods give it.
function numbered({ protocol = "TCP", port, endPort }, to) {
  const number = typeof port === "string" ? (to.ports.find((p) => p.name === port)?.containerPort ?? port) : port;
  return { protocol, port: number, endPort };
}

function common(a, b) {
  if (a.protocol !== b.protocol) return null;
  if (a.port === undefined) return b;
  if (b.port === undefined) return a;
  if (typeof a.port === "string" || typeof b.port === "string") return a.port === b.port ? a : null;
  const [low, high] = [Math.max(a.port, b.port), Math.min(a.endPort || a.port, b.endPort || b.port)];
  return low > high ? null : { protocol: a.protocol, port: low, endPort: high > low ? high : undefined };
}

// Networks outside that a group may be reached from ("Ingress") or reach ("Egress"): [{name, ports}].
export function outside(group, policies, type) {
  const rules = rulesFor(group, policies, type);
  if (!rules) return [{ name: "0.0.0.0/0, ::/0", ports: null }];
  return rules.flatMap((rule) => {
    const ports = rule.ports && rule.ports.map((port) => numbered(port, group));
    if (!rule.peers) return [{ name: "0.0.0.0/0, ::/0", ports }];
    return rule.peers.filter((peer) => peer.ipBlock).map(({ ipBlock }) => ({ name: ipBlock.cidr + (ipBlock.except?.length ? ` − ${ipBlock.except.join(", ")}` : ""), ports }));
  });
}

export const portWords = (ports, all) =>
  ports ? [...new Set(ports.map((p) => `${p.port === undefined ? "*" : p.endPort ? `${p.port}–${p.endPort}` : p.port}/${p.protocol}`))].join(", ") : all;
