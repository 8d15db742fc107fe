// The menu's order: well-known resources by subject, everything else below.

export const CUSTOM = "Custom and other";
const SECTIONS = [
  ["Workloads", ["pods", "deployments", "statefulsets", "daemonsets", "replicasets", "jobs", "cronjobs", "horizontalpodautoscalers", "replicationcontrollers", "poddisruptionbudgets"]],
  ["Network", ["services", "ingresses", "endpointslices", "networkpolicies", "ingressclasses", "servicecidrs", "ipaddresses"]],
  ["Configuration", ["configmaps", "secrets", "resourcequotas", "limitranges", "priorityclasses"]],
  ["Storage", ["persistentvolumeclaims", "persistentvolumes", "storageclasses", "volumeattachments", "csidrivers"]],
  ["Cluster", ["nodes", "namespaces", "events", "leases", "customresourcedefinitions", "apiservices"]],
  ["Access", ["serviceaccounts", "roles", "rolebindings", "clusterroles", "clusterrolebindings", "certificatesigningrequests"]],
];
const OWN = new Set(["", "apps", "batch", "autoscaling", "policy", "networking.k8s.io", "discovery.k8s.io", "storage.k8s.io", "scheduling.k8s.io", "rbac.authorization.k8s.io", "certificates.k8s.io", "coordination.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io"]);

export function sections(kinds) {
  const rest = new Set(kinds.filter((k) => !(k.plural === "events" && k.group)));
  const found = SECTIONS.map(([title, plurals]) => [
    title,
    plurals.flatMap((plural) => {
      const kind = kinds.find((k) => k.plural === plural && OWN.has(k.group));
      rest.delete(kind);
      return kind ? [kind] : [];
    }),
  ]);
  found.push([CUSTOM, [...rest].sort((a, b) => a.kind.localeCompare(b.kind))]);
  return found.filter(([, of]) => of.length);
}

export const linkTo = (kind, namespace, name, tab) =>
  `#/o/${kind.group || "core"}/${kind.version}/${kind.plural}/${namespace || "-"}/${encodeURIComponent(name)}${tab ? "?tab=" + tab : ""}`;
