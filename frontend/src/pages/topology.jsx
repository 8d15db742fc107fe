import { useEffect, useState } from "preact/hooks";
import { discover, get, listed } from "../api.js";
import { useRefreshed } from "../refreshed.js";
import { linkTo } from "../sections.js";
import { Columns } from "../parts/columns.jsx";
import { t } from "../words.js";
import { Policies } from "./policies.jsx";

const PODS_MAX = 300;
const COLUMNS = ["Ingress", "Service", "Workload", "Pod", "Node"];

const idOf = (kind, name) => `${kind}/${name}`;

// What leads to what in one namespace: Ingress -> Service -> Pod <- ReplicaSet <- Deployment, Pod -> Node.
async function look(namespace) {
  const kinds = await discover();
  const kind = (group, plural) => kinds.find((k) => k.group === group && k.plural === plural);
  const list = (group, plural, query) => listed(kind(group, plural), { namespace, query });
  const [ingresses, services, slices, sets, pods, nodes] = await Promise.all([
    list("networking.k8s.io", "ingresses"),
    list("", "services"),
    list("discovery.k8s.io", "endpointslices"),
    list("apps", "replicasets"),
    list("", "pods", { limit: PODS_MAX }),
    listed(kind("", "nodes")),
  ]);
  const boxes = new Map();
  const lines = [];
  const box = (column, about, of, name, more) => {
    const id = idOf(about, name);
    if (!boxes.has(id)) boxes.set(id, { id, column, about, name, href: of && linkTo(of, of.namespaced ? namespace : "", name), ...more });
    return id;
  };
  for (const i of ingresses.items) {
    const id = box(0, "Ingress", kind("networking.k8s.io", "ingresses"), i.metadata.name, { detail: (i.spec.rules || []).map((r) => r.host || "*").join(", ") });
    const backends = [i.spec.defaultBackend, ...(i.spec.rules || []).flatMap((r) => (r.http?.paths || []).map((p) => p.backend))];
    for (const name of new Set(backends.map((b) => b?.service?.name).filter(Boolean))) lines.push([id, idOf("Service", name)]);
  }
  for (const s of services.items) box(1, "Service", kind("", "services"), s.metadata.name, { detail: `${s.spec.clusterIP || s.spec.externalName || ""} ${(s.spec.ports || []).map((p) => p.port).join(",")}` });
  const node = new Map(nodes.items.map((n) => [n.metadata.name, n]));
  for (const p of pods.items) {
    const ready = p.status?.conditions?.some((c) => c.type === "Ready" && c.status === "True");
    const id = box(3, "Pod", kind("", "pods"), p.metadata.name, { detail: `${p.status?.podIP || ""} ${p.status?.phase || ""}`, tone: ready ? "good" : p.status?.phase === "Succeeded" ? "" : "middling" });
    let owner = p.metadata.ownerReferences?.find((o) => o.controller);
    // A Deployment's own ReplicaSet would only be one more step.
    const set = owner?.kind === "ReplicaSet" && sets.items.find((s) => s.metadata.uid === owner.uid);
    owner = (set && set.metadata.ownerReferences?.find((o) => o.controller)) || owner;
    if (owner) {
      const of = kinds.find((k) => k.kind === owner.kind && owner.apiVersion === (k.group ? `${k.group}/${k.version}` : k.version));
      lines.push([box(2, owner.kind, of, owner.name, { detail: owner.kind }), id]);
    }
    if (p.spec.nodeName) {
      const detail = node.get(p.spec.nodeName)?.status?.addresses?.find((a) => a.type === "InternalIP")?.address;
      lines.push([id, box(4, "Node", nodes.items.length ? kind("", "nodes") : null, p.spec.nodeName, { detail })]);
    }
  }
  // A Service's endpoints, by the workload that they belong to (or the pod itself).
  const workload = new Map(lines.filter(([, to]) => to.startsWith("Pod/")).map(([from, to]) => [to, from]));
  for (const slice of slices.items)
    for (const endpoint of slice.endpoints || []) {
      const pod = idOf("Pod", endpoint.targetRef?.name);
      const service = idOf("Service", slice.metadata.labels?.["kubernetes.io/service-name"]);
      lines.push([service, workload.get(pod) || pod]);
    }
  return { boxes: [...boxes.values()].sort((a, b) => a.name.localeCompare(b.name)), lines: [...new Map(lines.map((line) => [line.join(" "), line])).values()], cut: !!pods.metadata?.continue };
}

export function Topology({ query }) {
  const [namespace, setNamespace] = useState(query.get("ns") || localStorage.getItem("namespace") || "default");
  const [namespaces, setNamespaces] = useState([]);
  const [view, setView] = useState(query.get("view") || "ways");
  useEffect(() => {
    document.title = `${t("Topology")} · Peavine`;
    get("/api/v1/namespaces").then((list) => setNamespaces(list.items.map((n) => n.metadata.name)), () => {});
  }, []);
  const names = [...new Set([...namespaces, namespace])];
  return (
    <section class="topology">
      <div class="bar">
        <h1>{t("Topology")}</h1>
        <select aria-label={t("Namespace")} value={namespace} onChange={(e) => setNamespace(e.currentTarget.value)}>{names.map((n) => <option key={n}>{n}</option>)}</select>
        <button aria-pressed={view === "ways"} onClick={() => setView("ways")}>{t("What leads where")}</button>
        <button aria-pressed={view === "policies"} onClick={() => setView("policies")}>{t("Network policies")}</button>
      </div>
      {view === "policies" ? <Policies namespace={namespace} /> : <Ways namespace={namespace} />}
    </section>
  );
}

function Ways({ namespace }) {
  const seen = useRefreshed(look, namespace);
  const [chosen, setChosen] = useState("");
  useEffect(() => setChosen(""), [namespace]);
  if (!seen) return <p>{t("Loading…")}</p>;
  if (!seen.boxes.length) return <p class="nothing">{t("Nothing here")}</p>;
  return (
    <>
      {seen.cut && <p class="count">{PODS_MAX} {t("Pods")}…</p>}
      <Columns titles={COLUMNS} boxes={seen.boxes} lines={seen.lines} chosen={chosen} onChoose={setChosen} />
    </>
  );
}
