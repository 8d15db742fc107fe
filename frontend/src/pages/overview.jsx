import { useEffect, useState } from "preact/hooks";
import { discover, listed, may, pathOf, table } from "../api.js";
import { linkTo } from "../sections.js";
import { useHistory } from "../history.js";
import { Graph } from "../parts/graph.jsx";
import { age, bytes, cores, quantity, t } from "../words.js";

const REFRESH_MS = 10_000;
const TOP_PODS = 6;

const WORKLOADS = [
  ["apps", "deployments", (o) => [o.status?.readyReplicas || 0, o.spec.replicas ?? 1]],
  ["apps", "statefulsets", (o) => [o.status?.readyReplicas || 0, o.spec.replicas ?? 1]],
  ["apps", "daemonsets", (o) => [o.status?.numberReady || 0, o.status?.desiredNumberScheduled || 0]],
  ["batch", "jobs", (o) => [o.status?.succeeded || 0, o.spec.completions ?? 1, o.status?.conditions?.some((c) => c.type === "Failed" && c.status === "True")]],
];

// Only the printed columns: of thousands of pods that is a tenth.
async function podTable(kind) {
  const none = { rows: [], columnDefinitions: [] };
  return (await may("list", kind)) ? table(pathOf(kind), { includeObject: "None" }).catch(() => none) : none;
}

async function look() {
  const kinds = await discover();
  const kind = (group, plural) => kinds.find((k) => k.group === group && k.plural === plural);
  const list = (group, plural, query) => listed(kind(group, plural), { query });
  const [nodes, warnings, pods, metrics, ...workloads] = await Promise.all([
    list("", "nodes"),
    list("", "events", { fieldSelector: "type=Warning", limit: 500 }),
    podTable(kind("", "pods")),
    list("metrics.k8s.io", "nodes"),
    ...WORKLOADS.map(([group, plural]) => list(group, plural)),
  ]);
  const status = pods.columnDefinitions.findIndex((c) => c.name === "Status");
  const phases = {};
  for (const row of pods.rows) phases[row.cells[status]] = (phases[row.cells[status]] || 0) + 1;
  const when = (e) => e.lastTimestamp || e.series?.lastObservedTime || e.eventTime || e.metadata.creationTimestamp;
  return {
    kinds: { node: kind("", "nodes"), of: (group, plural) => kind(group, plural) },
    nodes: nodes.items,
    usage: Object.fromEntries(metrics.items.map((m) => [m.metadata.name, { cpu: quantity(m.usage.cpu), memory: quantity(m.usage.memory) }])),
    phases,
    pods: pods.rows.length,
    warnings: warnings.items.map((e) => ({ ...e, when: when(e) })).sort((a, b) => (a.when < b.when ? 1 : -1)).slice(0, 12),
    workloads: WORKLOADS.map(([group, plural, health], i) => ({ kind: kind(group, plural), of: workloads[i].items.map((o) => ({ o, health: health(o) })) })),
  };
}

export function Overview() {
  const [seen, setSeen] = useState(null);
  const nodeHistory = useHistory("nodes");
  const podHistory = useHistory("pods", `?top=${TOP_PODS}`);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    document.title = `${t("Overview")} · Peavine`;
    let ended = false;
    const again = async () => {
      if (document.hidden) return;
      try {
        const found = await look();
        if (ended) return;
        setSeen(found);
        setProblem("");
      } catch (error) {
        if (!ended) setProblem(error.message);
      }
    };
    again();
    const timer = setInterval(again, REFRESH_MS);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, []);
  if (problem) return <p class="problem" role="alert">{problem}</p>;
  if (!seen) return <p>{t("Loading…")}</p>;
  const ready = (node) => node.status?.conditions?.find((c) => c.type === "Ready")?.status === "True";
  const capacity = (what) => seen.nodes.reduce((sum, node) => sum + quantity(node.status?.allocatable?.[what]), 0);
  return (
    <section class="overview">
      <h1>{t("Overview")}</h1>
      <div class="cards">
        <div class="card"><b>{seen.nodes.filter(ready).length}/{seen.nodes.length}</b><span>{t("Nodes")} · {t("Ready")}</span></div>
        <div class="card"><b>{seen.pods}</b><span>{t("Pods")}</span><Phases phases={seen.phases} /></div>
        <div class="card"><b>{cores(capacity("cpu"))}</b><span>{t("CPU")}</span></div>
        <div class="card"><b>{bytes(capacity("memory"))}</b><span>{t("Memory")}</span></div>
      </div>
      <Usage history={nodeHistory} title={t("Nodes")} />
      <Usage history={podHistory} title={t("Pods that use most")} />
      <h2>{t("Workloads")}</h2>
      <div class="cards">
        {seen.workloads.filter((w) => w.kind).map(({ kind, of }) => (
          <div class="card" key={kind.plural}>
            <span><a href={`#/r/${kind.group}/${kind.version}/${kind.plural}`}>{kind.kind}</a> · {of.filter(({ health: [a, b] }) => a >= b).length}/{of.length} {t("Healthy")}</span>
            <div class="squares">
              {of.map(({ o, health: [has, wants, failed] }) => (
                <a key={o.metadata.uid} class={failed || (!has && wants) ? "bad" : has < wants ? "middling" : "good"} href={linkTo(kind, o.metadata.namespace, o.metadata.name)}
                  title={`${o.metadata.namespace}/${o.metadata.name}: ${has}/${wants}`}><span class="sr">{o.metadata.name} {has}/{wants}</span></a>
              ))}
            </div>
          </div>
        ))}
      </div>
      <h2>{t("Nodes")}</h2>
      <div class="scroll" tabIndex={0}><table class="plain">
        <thead><tr><th>{t("Name")}</th><th>{t("Status")}</th><th>{t("Version")}</th><th>{t("CPU")}</th><th>{t("Memory")}</th><th>{t("Age")}</th></tr></thead>
        <tbody>
          {seen.nodes.map((node) => {
            const usage = seen.usage?.[node.metadata.name];
            return (
              <tr key={node.metadata.uid}>
                <td><a href={linkTo(seen.kinds.node, "", node.metadata.name)}>{node.metadata.name}</a></td>
                <td class={ready(node) ? "good" : "bad"}>{ready(node) ? t("Ready") : t("Not ready")}{node.spec.unschedulable ? `, ${t("Unschedulable")}` : ""}</td>
                <td>{node.status?.nodeInfo?.kubeletVersion}</td>
                <td><Meter value={usage?.cpu} most={quantity(node.status?.allocatable?.cpu)} text={cores} /></td>
                <td><Meter value={usage?.memory} most={quantity(node.status?.allocatable?.memory)} text={bytes} /></td>
                <td>{age(node.metadata.creationTimestamp)}</td>
              </tr>
            );
          })}
        </tbody>
      </table></div>
      <h2>{t("Recent warnings")}</h2>
      {seen.warnings.length === 0 ? <p class="nothing">{t("Nothing here")}</p> : (
        <div class="scroll" tabIndex={0}><table class="plain">
          <tbody>
            {seen.warnings.map((e) => (
              <tr key={e.metadata.uid}><td>{age(e.when)}</td><td class="bad">{e.reason}</td><td>{e.involvedObject?.kind} {e.involvedObject?.namespace}/{e.involvedObject?.name}</td><td class="wrap">{e.message}</td></tr>
            ))}
          </tbody>
        </table></div>
      )}
    </section>
  );
}

function Phases({ phases }) {
  return <span class="phases">{Object.entries(phases).map(([phase, n]) => <span key={phase} class={/^(Running|Succeeded|Completed)$/.test(phase) ? "good" : /^(Pending|ContainerCreating|Terminating)$/.test(phase) ? "middling" : "bad"}>{n} {t(phase)}</span>)}</span>;
}

function Meter({ value, most, text }) {
  if (value === undefined) return <span>{text(most)}</span>;
  return <span class="meter"><meter min={0} max={most || 1} high={0.9 * most} value={value} /> {text(value)} / {text(most)}</span>;
}

function Usage({ history, title }) {
  if (!history || !Object.keys(history.series).length) return null;
  return (
    <>
      <h2>{title}</h2>
      <div class="plots">
        <Graph title={t("CPU")} series={history.series} field="cpu" text={cores} />
        <Graph title={t("Memory")} series={history.series} field="memory" text={bytes} />
      </div>
    </>
  );
}
