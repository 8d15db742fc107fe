import { useEffect, useMemo, useState } from "preact/hooks";
import { discover, listed } from "../api.js";
import { between, groupsOf, outside, policiesFor, portWords } from "../policies.js";
import { useRefreshed } from "../refreshed.js";
import { linkTo } from "../sections.js";
import { Columns } from "../parts/columns.jsx";
import { t } from "../words.js";

const PODS_MAX = 1000;
const COLUMNS = ["Who may talk to it", "Pods", "Whom it may talk to"];

// This namespace's, and those of all others where the user may see them (so many of them).
async function everywhere(kind, namespace, query) {
  const [own, all] = await Promise.all([listed(kind, { namespace, query }), listed(kind, { query })]);
  return { items: [...own.items, ...all.items.filter((item) => item.metadata.namespace !== namespace)], cut: !!(own.metadata.continue || all.metadata.continue) };
}

async function look(namespace) {
  const kinds = await discover();
  const kind = (group, plural) => kinds.find((k) => k.group === group && k.plural === plural);
  const [pods, policies, namespaces] = await Promise.all([
    everywhere(kind("", "pods"), namespace, { limit: PODS_MAX, fieldSelector: "status.phase!=Succeeded,status.phase!=Failed" }),
    everywhere(kind("networking.k8s.io", "networkpolicies"), namespace),
    listed(kind("", "namespaces")),
  ]);
  const labels = new Map(namespaces.items.map((n) => [n.metadata.name, n.metadata.labels || {}]));
  const nameOf = (pod) => {
    const owner = pod.metadata.ownerReferences?.find((o) => o.controller);
    if (!owner) return pod.metadata.name;
    const hash = pod.metadata.labels?.["pod-template-hash"];
    return hash && owner.name.endsWith(`-${hash}`) ? owner.name.slice(0, -hash.length - 1) : owner.name;
  };
  return { groups: groupsOf(pods.items, nameOf), policies: policies.items, namespaces: labels, kind: kind("networking.k8s.io", "networkpolicies"), cut: pods.cut };
}

// NetworkPolicies of a namespace as a picture: who may talk to a group of pods, and whom it may talk to.
export function Policies({ namespace }) {
  const seen = useRefreshed(look, namespace);
  const [chosen, setChosen] = useState("");
  useEffect(() => setChosen(""), [namespace]);
  const own = useMemo(() => (seen ? seen.groups.filter((g) => g.namespace === namespace).sort((a, b) => a.name.localeCompare(b.name)) : []), [seen, namespace]);
  const group = own.find((g) => g.id === chosen) || own[0];
  const picture = useMemo(() => (group ? drawn(group, own, seen) : { boxes: [], lines: [] }), [group, own, seen]);
  if (!seen) return <p>{t("Loading…")}</p>;
  if (!group) return <p class="nothing">{t("Nothing here")}</p>;
  const about = seen.policies.filter((p) => p.metadata.namespace === namespace);
  return (
    <>
      <p class="hint">{t("Choose pods in the middle. Where no policy selects them, everyone may talk to them; pods of the node's own network are not shown.")}{seen.cut && ` ${PODS_MAX} ${t("Pods")}…`}</p>
      <Columns titles={COLUMNS} {...picture} chosen={group.id} onChoose={(id) => setChosen(id.replace(/^(from|to) /, ""))} lit={(lines) => new Set([group.id, ...lines.flat()])} />
      <h2>NetworkPolicy</h2>
      {about.length ? <p>{about.map((p) => <a key={p.metadata.uid} class="chip" href={linkTo(seen.kind, namespace, p.metadata.name)}>{p.metadata.name}</a>)}</p> : <p class="nothing">{t("Nothing here")}</p>}
    </>
  );
}

function drawn(group, own, seen) {
  const { policies, namespaces, groups } = seen;
  const boxes = own.map((g) => {
    const selecting = [...new Set(["Ingress", "Egress"].flatMap((type) => policiesFor(g, policies, type)))];
    return { id: g.id, column: 1, name: g.name, tone: selecting.length ? "good" : "middling", detail: [`${g.pods.length} ${t("Pods")}`, selecting.length ? selecting.map((p) => p.metadata.name).join(", ") : t("no policy: open")] };
  });
  const lines = [];
  const all = t("all ports");
  const add = (side, column, key, name, ports) => {
    if (ports && !ports.length) return;
    const id = `${side} ${key}`;
    const words = portWords(ports, all);
    const there = boxes.find((box) => box.id === id);
    if (there) return void (there.detail.includes(words) || there.detail.push(words));
    boxes.push({ id, column, name, detail: [words] });
    lines.push(side === "from" ? [id, group.id, words] : [group.id, id, words]);
  };
  for (const other of groups) {
    const name = other.namespace === group.namespace ? other.name : `${other.namespace}/${other.name}`;
    if (other !== group) add("from", 0, other.id, name, between(other, group, policies, namespaces));
    if (other !== group) add("to", 2, other.id, name, between(group, other, policies, namespaces));
  }
  for (const { name, ports } of outside(group, policies, "Ingress")) add("from", 0, name, name, ports);
  for (const { name, ports } of outside(group, policies, "Egress")) add("to", 2, name, name, ports);
  return { boxes, lines };
}
