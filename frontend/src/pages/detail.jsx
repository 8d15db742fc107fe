import { useEffect, useState } from "preact/hooks";
import { follow, get, kindOf, may, pathOf } from "../api.js";
import { linkTo } from "../sections.js";
import { age, t } from "../words.js";
import { Actions } from "../parts/actions.jsx";
import { Editor } from "../parts/editor.jsx";
import { Logs } from "../parts/logs.jsx";
import { Revisions } from "../parts/revisions.jsx";
import { Shell } from "../parts/shell.jsx";

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
      ...(kind.plural === "deployments" && { revisions: may("list", { group: "apps", plural: "replicasets" }, { namespace }) }),
      ...(kind.plural === "nodes" && !kind.group && { evict: may("create", { group: "", plural: "pods" }, { subresource: "eviction" }) }),
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
  const tabs = [["summary", "Summary"], ["yaml", "YAML"], ...(rights.revisions ? [["revisions", "Revisions"]] : []), ...(rights.logs ? [["logs", "Logs"]] : []), ...(rights.exec ? [["shell", "Shell"]] : [])];
  return (
    <section class="detail">
      <p class="crumbs"><a href={`#/r/${kind.group || "core"}/${kind.version}/${kind.plural}`}>{kind.kind}</a>{namespace && ` / ${namespace}`}</p>
      <div class="bar">
        <h1>{name}</h1>
        {object && !gone && <Actions kind={kind} object={object} rights={rights} />}
      </div>
      {problem && <p class="problem" role="alert">{problem.message}</p>}
      {gone && <p class="problem" role="status">{t("This object is gone")}</p>}
      <div class="tabs" role="tablist">
        {tabs.map(([id, words]) => <button key={id} role="tab" aria-selected={at === id} onClick={() => setAt(id)}>{t(words)}</button>)}
      </div>
      {object && at === "summary" && <Summary kind={kind} object={object} />}
      {object && at === "yaml" && <Editor kind={kind} object={object} editable={rights.update && !gone} />}
      {object && at === "revisions" && <Revisions kind={kind} deployment={object} mayChange={rights.patch && !gone} />}
      {object && at === "logs" && rights.logs && <Logs kind={kind} pod={object} />}
      {object && at === "shell" && rights.exec && <Shell kind={kind} pod={object} />}
    </section>
  );
}

function Summary({ kind, object }) {
  const meta = object.metadata;
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
      {kind.plural === "pods" && object.spec?.containers && <Containers pod={object} />}
      {object.status?.conditions?.length > 0 && (
        <>
          <h2>{t("Conditions")}</h2>
          <div class="scroll"><table class="plain">
            <thead><tr><th>{t("Type")}</th><th>{t("Status")}</th><th>{t("Reason")}</th><th>{t("Message")}</th><th>{t("Age")}</th></tr></thead>
            <tbody>{object.status.conditions.map((c) => <tr key={c.type}><td>{c.type}</td><td>{c.status}</td><td>{c.reason}</td><td class="wrap">{c.message}</td><td>{age(c.lastTransitionTime)}</td></tr>)}</tbody>
          </table></div>
        </>
      )}
      <EventsOf object={object} />
    </>
  );
}

function Containers({ pod }) {
  const statuses = [...(pod.status?.containerStatuses || []), ...(pod.status?.initContainerStatuses || [])];
  const probes = (c) => ["livenessProbe", "readinessProbe", "startupProbe"].filter((p) => c[p]).map((p) => p.replace("Probe", "")).join(", ");
  return (
    <>
      <h2>{t("Containers")}</h2>
      <div class="scroll"><table class="plain">
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

function EventsOf({ object }) {
  const [events, setEvents] = useState(null);
  const uid = object.metadata.uid;
  useEffect(() => {
    const ended = new AbortController();
    const all = new Map();
    const show = () => setEvents([...all.values()]);
    const when = object.metadata.namespace ? `/api/v1/namespaces/${object.metadata.namespace}/events` : "/api/v1/events";
    // A node's events name it as their uid: kubelets do not know the object's.
    const selector = object.kind === "Node" ? `involvedObject.kind=Node,involvedObject.name=${object.metadata.name}` : `involvedObject.uid=${uid}`;
    follow(when, {
      query: { fieldSelector: selector },
      asTable: false,
      signal: ended.signal,
      onProblem: (problem) => problem && setEvents((old) => old || []),
      onList: (list) => {
        all.clear();
        list.items.forEach((e) => all.set(e.metadata.uid, e));
        show();
      },
      onEvents: (found) => {
        for (const { type, object: e } of found) type === "DELETED" ? all.delete(e.metadata.uid) : all.set(e.metadata.uid, e);
        show();
      },
    });
    return () => ended.abort();
  }, [uid]);
  const time = (e) => e.lastTimestamp || e.series?.lastObservedTime || e.eventTime || e.metadata.creationTimestamp;
  return (
    <>
      <h2>{t("Events")}</h2>
      {!events?.length ? <p class="nothing">{events ? t("Nothing here") : t("Loading…")}</p> : (
        <div class="scroll"><table class="plain">
          <tbody>{[...events].sort((a, b) => (time(a) < time(b) ? 1 : -1)).map((e) => <tr key={e.metadata.uid}><td>{age(time(e))}</td><td class={e.type === "Warning" ? "bad" : ""}>{e.reason}</td><td>{e.count || e.series?.count || 1}×</td><td class="wrap">{e.message}</td></tr>)}</tbody>
        </table></div>
      )}
    </>
  );
}
