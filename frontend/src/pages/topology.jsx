import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { discover, get } from "../api.js";
import { linkTo } from "../sections.js";
import { t } from "../words.js";

const REFRESH_MS = 10_000;
const PODS_MAX = 300;
const COLUMNS = ["Ingress", "Service", "Workload", "Pod", "Node"];

const quietly = (promise) => promise.catch(() => ({ items: [] }));
const idOf = (kind, name) => `${kind}/${name}`;

// What leads to what in one namespace: Ingress -> Service -> Pod <- ReplicaSet <- Deployment, Pod -> Node.
async function look(namespace) {
  const kinds = await discover();
  const kind = (group, plural) => kinds.find((k) => k.group === group && k.plural === plural);
  const list = (root, plural, query) => quietly(get(`${root}/namespaces/${namespace}/${plural}`, query));
  const [ingresses, services, slices, sets, pods, nodes] = await Promise.all([
    list("/apis/networking.k8s.io/v1", "ingresses"),
    list("/api/v1", "services"),
    list("/apis/discovery.k8s.io/v1", "endpointslices"),
    list("/apis/apps/v1", "replicasets"),
    list("/api/v1", "pods", { limit: PODS_MAX }),
    quietly(get("/api/v1/nodes")),
  ]);
  const boxes = new Map();
  const lines = [];
  const box = (column, kindName, of, name, more) => {
    const id = idOf(kindName, name);
    if (!boxes.has(id)) boxes.set(id, { id, column, kindName, name, href: of && linkTo(of, of.namespaced ? namespace : "", name), ...more });
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
    if (p.spec.nodeName) lines.push([id, box(4, "Node", kind("", "nodes"), p.spec.nodeName, { detail: node.get(p.spec.nodeName)?.status?.addresses?.find((a) => a.type === "InternalIP")?.address })]);
  }
  // A packet's way: a Service's endpoints, by the workload that they belong to (or the pod itself).
  const workload = new Map(lines.filter(([, to]) => to.startsWith("Pod/")).map(([from, to]) => [to, from]));
  for (const slice of slices.items)
    for (const endpoint of slice.endpoints || []) {
      const pod = idOf("Pod", endpoint.targetRef?.name);
      const service = idOf("Service", slice.metadata.labels?.["kubernetes.io/service-name"]);
      lines.push([service, workload.get(pod) || pod]);
    }
  const known = new Map(lines.filter(([a, b]) => boxes.has(a) && boxes.has(b)).map((line) => [line.join(" "), line]));
  return { boxes: [...boxes.values()].sort((a, b) => a.name.localeCompare(b.name)), lines: [...known.values()], cut: !!pods.metadata?.continue };
}

// Everything that a chosen box leads to, and that leads to it.
function connected(lines, chosen) {
  const reach = (from, to) => {
    const found = new Set([chosen]);
    for (let grown = true; grown; ) {
      grown = false;
      for (const line of lines)
        if (found.has(line[from]) && !found.has(line[to])) {
          found.add(line[to]);
          grown = true;
        }
    }
    return found;
  };
  return new Set([...reach(0, 1), ...reach(1, 0)]);
}

export function Topology({ query }) {
  const [namespace, setNamespace] = useState(query.get("ns") || localStorage.getItem("namespace") || "default");
  const [namespaces, setNamespaces] = useState([]);
  const [seen, setSeen] = useState(null);
  const [chosen, setChosen] = useState("");
  const [paths, setPaths] = useState([]);
  const area = useRef();

  useEffect(() => {
    document.title = `${t("Topology")} · Peavine`;
    get("/api/v1/namespaces").then((list) => setNamespaces(list.items.map((n) => n.metadata.name)), () => {});
  }, []);
  useEffect(() => {
    let ended = false;
    const again = () => !document.hidden && look(namespace).then((found) => !ended && setSeen(found), () => {});
    setChosen("");
    again();
    const timer = setInterval(again, REFRESH_MS);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, [namespace]);
  useLayoutEffect(() => {
    if (!seen) return;
    const draw = () => {
      const origin = area.current.getBoundingClientRect();
      const place = new Map([...area.current.querySelectorAll("[data-id]")].map((e) => [e.dataset.id, e.getBoundingClientRect()]));
      setPaths(
        seen.lines.map(([from, to]) => {
          const [a, b] = [place.get(from), place.get(to)];
          const [x, y] = [a.right - origin.left, a.top + a.height / 2 - origin.top];
          const [x2, y2] = [b.left - origin.left, b.top + b.height / 2 - origin.top];
          const middle = (x + x2) / 2;
          return { from, to, d: `M${x},${y} C${middle},${y} ${middle},${y2} ${x2},${y2}` };
        }),
      );
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(area.current);
    return () => observer.disconnect();
  }, [seen]);

  const lit = chosen && seen ? connected(seen.lines, chosen) : null;
  const names = [...new Set([...namespaces, namespace])];
  return (
    <section class="topology">
      <div class="bar">
        <h1>{t("Topology")}</h1>
        <select aria-label={t("Namespace")} value={namespace} onChange={(e) => setNamespace(e.currentTarget.value)}>{names.map((n) => <option key={n}>{n}</option>)}</select>
        {seen?.cut && <span class="count">{PODS_MAX} {t("Pods")}…</span>}
      </div>
      {!seen ? <p>{t("Loading…")}</p> : !seen.boxes.length ? <p class="nothing">{t("Nothing here")}</p> : (
        <div class="graph-scroll">
          <div class="graph" ref={area}>
            <svg aria-hidden="true">{paths.map((p) => <path key={p.from + p.to} d={p.d} class={!lit ? "" : lit.has(p.from) && lit.has(p.to) ? "lit" : "dim"} />)}</svg>
            {COLUMNS.map((title, i) => (
              <div class="column" key={title}>
                <h2>{t(title)}</h2>
                {seen.boxes.filter((b) => b.column === i).map((b) => (
                  <div key={b.id} data-id={b.id} class={`knot ${lit && !lit.has(b.id) ? "dim" : ""} ${chosen === b.id ? "chosen" : ""}`}>
                    <button onClick={() => setChosen(chosen === b.id ? "" : b.id)} aria-pressed={chosen === b.id} title={b.name}><span class={b.tone}>{b.tone ? "● " : ""}</span>{b.name}</button>
                    <span>{b.detail}</span>
                    {b.href && <a href={b.href} aria-label={`${b.kindName} ${b.name}`}>→</a>}
                  </div>
                ))}
              </div>
            ))}
          </div>
        </div>
      )}
    </section>
  );
}
