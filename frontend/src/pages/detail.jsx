import { useEffect, useState } from "preact/hooks";
import { follow, get, kindOf, may, pathOf } from "../api.js";
import { linkTo } from "../sections.js";
import { age, bytes, cores, t } from "../words.js";
import { timeOf, useEvents } from "../events.js";
import { useHistory } from "../history.js";
import { hasRevisions, keptIn } from "../revisions.js";
import { Actions } from "../parts/actions.jsx";
import { Graph } from "../parts/graph.jsx";
import { later } from "../parts/later.jsx";
import { Logs } from "../parts/logs.jsx";
import { Owners } from "../parts/owners.jsx";
import { Shell } from "../parts/shell.jsx";
import { Tabs } from "../parts/tabs.jsx";
import { Timeline } from "../parts/timeline.jsx";
import { Way } from "../parts/way.jsx";

// These read and write YAML, whose library most visits do without.
const Editor = later(() => import("../parts/editor.jsx"), "Editor");
const Revisions = later(() => import("../parts/revisions.jsx"), "Revisions");

// One object, live.
function useObject(kind, namespace, name) {
  const [state, setState] = useState({ object: null, problem: null, gone: false });
  useEffect(() => {
    const ended = new AbortController();
    follow(pathOf(kind, namespace), {
      query: { fieldSelector: `metadata.name=${name}` },
      asTable: false,
      signal: ended.signal,
      onProblem: (problem) => {
        // Whoever may not list or watch may still get.
        if (problem?.status === 403) get(pathOf(kind, namespace, name)).then((object) => setState({ object }), () => setState({ problem }));
        else setState((old) => ({ ...old, problem }));
      },
      onList: (list) => {
        const item = list.items[0];
        setState({ gone: !item, object: item ? { apiVersion: list.apiVersion, kind: kind.kind, ...item } : null });
      },
      onEvents: (events) => {
        const last = events[events.length - 1];
        if (last) setState((old) => ({ ...old, gone: last.type === "DELETED", object: last.object }));
      },
    });
    return () => ended.abort();
  }, [kind, namespace, name]);
  return state;
}

function useRights(kind, namespace, name) {
  const [rights, setRights] = useState({});
  useEffect(() => {
    const about = { namespace, name };
    const asked = {
      update: may("update", kind, about),
      patch: may("patch", kind, about),
      delete: may("delete", kind, about),
      create: may("create", kind, { namespace }),
      ...(kind.subresources.includes("scale") && { scale: may("patch", kind, { ...about, subresource: "scale" }) }),
      ...(kind.plural === "pods" && !kind.group && {
        logs: may("get", kind, { ...about, subresource: "log" }),
        // A WebSocket begins with GET; the API server wants create for exec as well.
        exec: Promise.all([may("get", kind, { ...about, subresource: "exec" }), may("create", kind, { ...about, subresource: "exec" })]).then(([a, b]) => a && b),
      }),
      ...(hasRevisions(kind) && { revisions: may("list", keptIn(kind), { namespace }) }),
      ...(kind.plural === "services" && !kind.group && { way: may("list", { group: "discovery.k8s.io", plural: "endpointslices" }, { namespace }) }),
      ...(kind.plural === "nodes" && !kind.group && { evict: Promise.all([may("create", { group: "", plural: "pods" }, { subresource: "eviction" }), may("list", { group: "", plural: "pods" })]).then((all) => all.every(Boolean)) }),
      ...(kind.plural === "cronjobs" && { trigger: may("create", { group: "batch", plural: "jobs" }, { namespace }) }),
    };
    let ended = false;
    for (const [what, answer] of Object.entries(asked)) answer.then((yes) => !ended && setRights((old) => ({ ...old, [what]: yes })), () => {});
    return () => (ended = true);
  }, [kind, namespace, name]);
  return rights;
}

export function Detail({ kind, namespace, name, tab }) {
  const { object, problem, gone } = useObject(kind, namespace, name);
  const rights = useRights(kind, namespace, name);
  const [at, setAt] = useState(tab || "summary");
  useEffect(() => {
    document.title = `${name} · ${kind.kind} · Peavine`;
  }, [kind, name]);
  const tabs = [["summary", "Summary"], ["yaml", "YAML"], ...(rights.way ? [["way", "A packet's way"]] : []), ...(rights.revisions ? [["revisions", "Revisions"]] : []), ...(rights.logs ? [["logs", "Logs"]] : []), ...(rights.exec ? [["shell", "Shell"]] : [])];
  return (
    <section class="detail">
      <p class="crumbs"><a href={`#/r/${kind.group || "core"}/${kind.version}/${kind.plural}`}>{kind.kind}</a>{namespace && ` / ${namespace}`}</p>
      <div class="bar">
        <h1>{name}</h1>
        {object && !gone && <Actions kind={kind} object={object} rights={rights} />}
      </div>
      {problem && <p class="problem" role="alert">{problem.message}</p>}
      {gone && <p class="problem" role="status">{t("This object is gone")}</p>}
      <Tabs tabs={tabs} at={at} onChoose={setAt} />
      <div role="tabpanel" id="panel" aria-labelledby={`tab-${at}`}>
      {object && at === "summary" && <Summary kind={kind} object={object} />}
      {object && at === "yaml" && <Editor kind={kind} object={object} editable={rights.update && !gone} />}
      {object && at === "revisions" && rights.revisions && <Revisions kind={kind} object={object} mayChange={rights.patch && !gone} />}
      {object && at === "way" && rights.way && <Way service={object} />}
      {object && at === "logs" && rights.logs && <Logs kind={kind} pod={object} />}
      {object && at === "shell" && rights.exec && <Shell kind={kind} pod={object} />}
      </div>
    </section>
  );
}

function Summary({ kind, object }) {
  const meta = object.metadata;
  const events = useEvents(object);
  const isPod = kind.plural === "pods" && !kind.group;
  return (
    <>
      <dl>
        <dt>{t("Created")}</dt><dd>{meta.creationTimestamp} ({age(meta.creationTimestamp)})</dd>
        {meta.deletionTimestamp && <><dt>deletionTimestamp</dt><dd class="bad">{meta.deletionTimestamp}</dd></>}
        {meta.labels && <><dt>{t("Labels")}</dt><dd>{Object.entries(meta.labels).map(([k, v]) => <a key={k} class="chip" href={`#/r/${kind.group || "core"}/${kind.version}/${kind.plural}?labels=${encodeURIComponent(`${k}=${v}`)}`}>{k}={v}</a>)}</dd></>}
        {meta.ownerReferences && <><dt>{t("Owners")}</dt><dd>{meta.ownerReferences.map((o) => <Reference key={o.uid} apiVersion={o.apiVersion} kind={o.kind} name={o.name} namespace={meta.namespace} />)}</dd></>}
        {object.spec?.nodeName && <><dt>Node</dt><dd><Reference apiVersion="v1" kind="Node" name={object.spec.nodeName} /></dd></>}
        {object.status?.phase && <><dt>{t("Status")}</dt><dd>{object.status.phase}</dd></>}
        {object.status?.podIP && <><dt>{t("Address")}</dt><dd>{object.status.podIP}</dd></>}
        {object.status?.replicas !== undefined && <><dt>{t("Replicas")}</dt><dd>{object.status.readyReplicas || 0} / {object.spec?.replicas ?? "?"}</dd></>}
      </dl>
      {kind.plural === "services" && !kind.group && <Ports service={object} />}
      {isPod && <Usage scope={`namespaces/${meta.namespace}/pods`} name={`${meta.namespace}/${meta.name}`} />}
      {kind.plural === "nodes" && !kind.group && <Usage scope="nodes" name={meta.name} />}
      {isPod && object.spec?.containers && <Containers pod={object} />}
      {isPod && <Timeline pod={object} events={events || []} />}
      {object.status?.conditions?.length > 0 && (
        <>
          <h2>{t("Conditions")}</h2>
          <div class="scroll" tabIndex={0}><table class="plain">
            <thead><tr><th>{t("Type")}</th><th>{t("Status")}</th><th>{t("Reason")}</th><th>{t("Message")}</th><th>{t("Age")}</th></tr></thead>
            <tbody>{object.status.conditions.map((c) => <tr key={c.type}><td>{c.type}</td><td>{c.status}</td><td>{c.reason}</td><td class="wrap">{c.message}</td><td>{age(c.lastTransitionTime)}</td></tr>)}</tbody>
          </table></div>
        </>
      )}
      <Owners kind={kind} object={object} />
      <Events events={events} />
    </>
  );
}

function Usage({ scope, name }) {
  const history = useHistory(scope, `?name=${encodeURIComponent(name)}`);
  const series = history?.series[name] && { [name]: history.series[name] };
  if (!series) return null;
  return (
    <>
      <h2>{t("What it uses")}</h2>
      <div class="plots">
        <Graph title={t("CPU")} series={series} field="cpu" text={cores} />
        <Graph title={t("Memory")} series={series} field="memory" text={bytes} />
      </div>
    </>
  );
}

function Ports({ service }) {
  return (
    <>
      <h2>{t("Ports")}</h2>
      <p>{(service.spec.ports || []).map((p) => <span class="chip" key={p.port}>{p.name} {p.port}/{p.protocol} → {p.targetPort}{p.nodePort ? ` (NodePort ${p.nodePort})` : ""}</span>)}</p>
    </>
  );
}

function Containers({ pod }) {
  const statuses = [...(pod.status?.containerStatuses || []), ...(pod.status?.initContainerStatuses || [])];
  const probes = (c) => ["livenessProbe", "readinessProbe", "startupProbe"].filter((p) => c[p]).map((p) => p.replace("Probe", "")).join(", ");
  return (
    <>
      <h2>{t("Containers")}</h2>
      <div class="scroll" tabIndex={0}><table class="plain">
        <thead><tr><th>{t("Name")}</th><th>{t("Image")}</th><th>{t("State")}</th><th>{t("Restarts")}</th><th>{t("Ports")}</th><th>{t("Probes")}</th></tr></thead>
        <tbody>
          {[...(pod.spec.initContainers || []), ...pod.spec.containers].map((c) => {
            const status = statuses.find((s) => s.name === c.name);
            const [state, detail] = Object.entries(status?.state || {})[0] || ["", {}];
            return <tr key={c.name}><td>{c.name}</td><td>{c.image}</td><td class={state === "running" ? "good" : ""}>{state} {detail.reason || ""}</td><td>{status?.restartCount ?? 0}</td><td>{(c.ports || []).map((p) => `${p.containerPort}/${p.protocol || "TCP"}`).join(", ")}</td><td>{probes(c)}</td></tr>;
          })}
        </tbody>
      </table></div>
    </>
  );
}

function Reference({ apiVersion, kind, name, namespace }) {
  const [found, setFound] = useState(null);
  useEffect(() => {
    kindOf(apiVersion, kind).then(setFound, () => {});
  }, [apiVersion, kind]);
  const words = `${kind}/${name}`;
  return found ? <a class="chip" href={linkTo(found, found.namespaced ? namespace : "", name)}>{words}</a> : <span class="chip">{words}</span>;
}

function Events({ events }) {
  return (
    <>
      <h2>{t("Events")}</h2>
      {!events?.length ? <p class="nothing">{events ? t("Nothing here") : t("Loading…")}</p> : (
        <div class="scroll" tabIndex={0}><table class="plain">
          <tbody>{events.map((e) => <tr key={e.metadata.uid}><td>{age(timeOf(e))}</td><td class={e.type === "Warning" ? "bad" : ""}>{e.reason}</td><td>{e.count || e.series?.count || 1}×</td><td class="wrap">{e.message}</td></tr>)}</tbody>
        </table></div>
      )}
    </>
  );
}
