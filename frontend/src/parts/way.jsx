import { useEffect, useMemo, useState } from "preact/hooks";
import { discover, get, may } from "../api.js";
import { linkTo } from "../sections.js";
import { t } from "../words.js";
import { Columns } from "./columns.jsx";

const REFRESH_MS = 5000;
const COLUMNS = ["Asked for", "Port", "Endpoint", "Pod", "Node"];

// A packet's way from a Service to its endpoints: the addresses it may be sent to, the port, what the proxy makes of
// it, the pod, the node.
export function Way({ service }) {
  const [seen, setSeen] = useState(null);
  const [problem, setProblem] = useState("");
  const [chosen, setChosen] = useState("");
  const { namespace, name } = service.metadata;
  useEffect(() => {
    let ended = false;
    const look = async () => {
      const kinds = await discover();
      const nodes = await may("list", { group: "", plural: "nodes" });
      const [slices, list] = await Promise.all([
        get(`/apis/discovery.k8s.io/v1/namespaces/${namespace}/endpointslices`, { labelSelector: `kubernetes.io/service-name=${name}` }),
        nodes ? get("/api/v1/nodes") : { items: [] },
      ]);
      const kind = (plural) => kinds.find((k) => k.plural === plural && !k.group);
      if (!ended) setSeen({ slices: slices.items, nodes: list.items, pod: kind("pods"), node: nodes && kind("nodes") });
    };
    const again = () => !document.hidden && look().catch((error) => !ended && setProblem(error.message));
    again();
    const timer = setInterval(again, REFRESH_MS);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, [namespace, name]);
  const picture = useMemo(() => (seen ? drawn(service, seen) : null), [service, seen]);
  const { spec } = service;
  if (problem) return <p class="problem" role="alert">{problem}</p>;
  if (!picture) return <p>{t("Loading…")}</p>;
  const rules = [
    spec.sessionAffinity === "ClientIP" && t("a client keeps its endpoint"),
    spec.internalTrafficPolicy === "Local" && t("from inside only to endpoints of the same node"),
    spec.externalTrafficPolicy === "Local" && t("from outside only to endpoints of the node it came to"),
    spec.trafficDistribution && `${t("preferred")}: ${spec.trafficDistribution}`,
    spec.publishNotReadyAddresses && t("also to what is not ready"),
  ].filter(Boolean);
  return (
    <>
      <p class="hint">{t(spec.type === "ExternalName" ? "DNS answers with another name; no packet passes here." : spec.clusterIP === "None" ? "Headless: DNS answers with the endpoints themselves." : "The node's proxy chooses one ready endpoint for each connection and rewrites the address.")} {rules.join("; ")}</p>
      <Columns titles={COLUMNS} {...picture} chosen={chosen} onChoose={setChosen} />
    </>
  );
}

function drawn(service, { slices, nodes, pod, node }) {
  const { spec, status, metadata } = service;
  const boxes = [];
  const lines = [];
  const box = (column, key, more) => {
    const id = `${column} ${key}`;
    if (!boxes.some((b) => b.id === id)) boxes.push({ id, column, name: key, ...more });
    return id;
  };
  const headless = spec.clusterIP === "None";
  const nodePorts = (spec.ports || []).some((p) => p.nodePort);
  const asked = [
    box(0, `${metadata.name}.${metadata.namespace}.svc`, { detail: spec.type === "ExternalName" ? spec.externalName : headless ? "DNS" : `DNS → ${spec.clusterIP}` }),
    ...(headless ? [] : (spec.clusterIPs || []).map((ip) => box(0, ip, { detail: "ClusterIP" }))),
    ...(spec.externalIPs || []).map((ip) => box(0, ip, { detail: "externalIPs" })),
    ...(status?.loadBalancer?.ingress || []).map((i) => box(0, i.ip || i.hostname, { detail: "LoadBalancer" })),
  ];
  const outer = nodePorts ? nodes.map((n) => box(0, n.status?.addresses?.find((a) => a.type === "InternalIP")?.address || n.metadata.name, { detail: `NodePort, ${n.metadata.name}` })) : [];
  for (const port of spec.ports || []) {
    const at = box(1, `${port.port}/${port.protocol || "TCP"}`, { detail: [port.name, `→ ${port.targetPort ?? port.port}`, port.nodePort && `NodePort ${port.nodePort}`] });
    for (const from of asked) lines.push([from, at]);
    if (port.nodePort) for (const from of outer) lines.push([from, at]);
    for (const slice of slices) {
      const target = (slice.ports || []).find((p) => (p.name || "") === (port.name || ""));
      if (!target) continue;
      const ready = (slice.endpoints || []).filter((e) => e.conditions?.ready !== false).length;
      for (const endpoint of slice.endpoints || []) {
        const good = endpoint.conditions?.ready !== false;
        const { terminating } = endpoint.conditions || {};
        for (const address of endpoint.addresses) {
          const shown = address.includes(":") ? `[${address}]` : address;
          const to = box(2, `${shown}:${target.port ?? "*"}`, { tone: good ? "good" : "middling", detail: good ? `${t("ready")}${headless ? "" : `, 1/${ready}`}` : t(terminating ? "ending" : "not ready: gets nothing") });
          lines.push([at, to, "", good ? "" : "broken"]);
          if (endpoint.targetRef?.kind !== "Pod") continue;
          const p = box(3, endpoint.targetRef.name, { about: "Pod", href: linkTo(pod, endpoint.targetRef.namespace || metadata.namespace, endpoint.targetRef.name) });
          lines.push([to, p]);
          if (endpoint.nodeName) lines.push([p, box(4, endpoint.nodeName, { about: "Node", href: node && linkTo(node, "", endpoint.nodeName), detail: nodes.find((n) => n.metadata.name === endpoint.nodeName)?.status?.addresses?.find((a) => a.type === "InternalIP")?.address })]);
        }
      }
    }
  }
  return { boxes, lines };
}
