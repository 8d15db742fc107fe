import { useEffect, useState } from "preact/hooks";
import { call, discover, get, whoAmI } from "../api.js";
import { linkTo } from "../sections.js";
import { age, t } from "../words.js";

const REFRESH_MS = 10_000;
const quietly = (promise, otherwise = { items: [] }) => promise.catch(() => otherwise);

async function look() {
  const kinds = await discover();
  const [version, ready, leases, nodes, ranges, endpoints, dns] = await Promise.all([
    quietly(get("/version"), {}),
    quietly(call("GET", "/readyz", { query: { verbose: "1" }, accept: "*/*" }).then((a) => a.text()), ""),
    quietly(get("/apis/coordination.k8s.io/v1/leases")),
    quietly(get("/api/v1/nodes")),
    quietly(get("/apis/networking.k8s.io/v1/servicecidrs")),
    quietly(get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", { labelSelector: "kubernetes.io/service-name=kubernetes" })),
    quietly(get("/api/v1/namespaces/kube-system/services")),
  ]);
  return { node: kinds.find((k) => k.plural === "nodes" && !k.group), version, ready, leases: leases.items, nodes: nodes.items, ranges: ranges.items, endpoints: endpoints.items, dns: dns.items };
}

export function Architecture() {
  const [seen, setSeen] = useState(null);
  useEffect(() => {
    document.title = `${t("Architecture")} · Peavine`;
    let ended = false;
    const again = () => !document.hidden && look().then((found) => !ended && setSeen(found), () => {});
    again();
    const timer = setInterval(again, REFRESH_MS);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, []);
  if (!seen) return <p>{t("Loading…")}</p>;
  const lines = seen.ready.split("\n").filter((line) => /^\[[+-]\]/.test(line));
  const passed = lines.filter((line) => line.startsWith("[+]")).length;
  const store = lines.find((line) => /etcd|store/.test(line));
  const addresses = seen.endpoints.flatMap((s) => s.endpoints.flatMap((e) => e.addresses.map((a) => `${a}:${s.ports?.[0]?.port}`)));
  const internal = (node) => node.status?.addresses?.find((a) => a.type === "InternalIP")?.address;
  const ready = (node) => node.status?.conditions?.find((c) => c.type === "Ready")?.status === "True";
  const dns = seen.dns.find((s) => s.metadata.name === "kube-dns");
  return (
    <section class="architecture">
      <h1>{t("Architecture")}</h1>
      <div class="tier">
        <Box title={t("Store")} good={store ? store.startsWith("[+]") : undefined}>{store?.slice(3)}</Box>
        <span class="wire" aria-hidden="true" />
        <Box title={t("API server")} good={lines.length ? passed === lines.length : undefined}>
          <p>{seen.version.gitVersion} · {whoAmI()?.server}</p>
          <p>{passed}/{lines.length} {t("checks pass")}</p>
          {lines.filter((line) => line.startsWith("[-]")).map((line) => <p key={line} class="bad">{line}</p>)}
        </Box>
      </div>
      <div class="drop" aria-hidden="true" />
      <div class="tier">
        <Leader title={t("Controller manager")} lease={lease(seen, "kube-controller-manager")} />
        <Leader title={t("Scheduler")} lease={lease(seen, "kube-scheduler")} />
        <Box title="DNS" good={dns ? true : undefined}>{dns && `${dns.metadata.name} · ${dns.spec.clusterIP}`}</Box>
      </div>
      <div class="drop" aria-hidden="true" />
      <div class="tier wide">
        {seen.nodes.map((node) => {
          const beat = seen.leases.find((l) => l.metadata.namespace === "kube-node-lease" && l.metadata.name === node.metadata.name);
          return (
            <Box key={node.metadata.uid} title={<a href={linkTo(seen.node, "", node.metadata.name)}>{node.metadata.name}</a>} good={ready(node)}>
              <p>kubelet {node.status?.nodeInfo?.kubeletVersion}</p>
              <p>{node.status?.nodeInfo?.containerRuntimeVersion}</p>
              {beat && <p>{t("renewed")} {age(beat.spec.renewTime)} {t("ago")}</p>}
              <p>{internal(node)}</p>
              <p>{(node.spec.podCIDRs || []).join(", ")}</p>
            </Box>
          );
        })}
      </div>
      <h2>{t("The three networks")}</h2>
      <div class="networks">
        <div><h3>{t("Node network")}</h3>{seen.nodes.map((n) => <p key={n.metadata.uid}><code>{internal(n)}</code> {n.metadata.name}</p>)}<p>{t("API server")}: <code>{addresses.join(", ")}</code></p></div>
        <div><h3>{t("Pod network")}</h3>{seen.nodes.map((n) => <p key={n.metadata.uid}><code>{(n.spec.podCIDRs || []).join(", ") || "–"}</code> {n.metadata.name}</p>)}</div>
        <div><h3>{t("Service network")}</h3>{seen.ranges.map((r) => <p key={r.metadata.uid}><code>{r.spec.cidrs.join(", ")}</code> {r.metadata.name}</p>)}{dns && <p><code>{dns.spec.clusterIP}</code> kube-dns</p>}</div>
      </div>
    </section>
  );
}

const lease = (seen, name) => seen.leases.find((l) => l.metadata.namespace === "kube-system" && l.metadata.name === name);

function Leader({ title, lease }) {
  if (!lease) return <Box title={title}><p>{t("no lease tells")}</p></Box>;
  const old = (Date.now() - Date.parse(lease.spec.renewTime)) / 1000;
  return <Box title={title} good={old < 2 * (lease.spec.leaseDurationSeconds || 15)}><p>{t("Held by")} {lease.spec.holderIdentity}</p><p>{t("renewed")} {age(lease.spec.renewTime)} {t("ago")}</p></Box>;
}

function Box({ title, good, children }) {
  return <div class={`box ${good === undefined ? "" : good ? "is-good" : "is-bad"}`}><h3><span class="dot" aria-hidden="true" />{title} <span class="sr">{good === undefined ? t("Unknown") : good ? t("Healthy") : t("Failed")}</span></h3>{children}</div>;
}
