import { useEffect, useRef, useState } from "preact/hooks";
import { call, discover, get, listed, may, whoAmI } from "../api.js";
import { looked, rates } from "../metrics.js";
import { linkTo } from "../sections.js";
import { age, t } from "../words.js";

const REFRESH_MS = 5_000;
const SECOND_LOOK_MS = 1_500; // rates need two
const quietly = (promise, otherwise) => promise.catch(() => otherwise);

// A component without a Lease (it elects no leader) is known by its open watches: what only it watches, all at once.
const WATCHES = {
  "kube-controller-manager": ["ControllerRevision", "CronJob", "HorizontalPodAutoscaler", "CertificateSigningRequest"],
  "kube-scheduler": ["CSIStorageCapacity", "CSINode", "CSIDriver"],
};

async function look() {
  const kinds = await discover();
  const kind = (group, plural) => kinds.find((k) => k.group === group && k.plural === plural);
  const text = async (path, query) => ((await may("get", { path })) ? quietly(call("GET", path, { query, accept: "*/*" }).then((a) => a.text()), "") : "");
  const [version, ready, metrics, leases, nodes, ranges, endpoints, services] = await Promise.all([
    quietly(get("/version"), {}),
    text("/readyz", { verbose: "1" }),
    text("/metrics"),
    listed(kind("coordination.k8s.io", "leases")),
    listed(kind("", "nodes")),
    listed(kind("networking.k8s.io", "servicecidrs")),
    listed(kind("discovery.k8s.io", "endpointslices"), { namespace: "default", query: { labelSelector: "kubernetes.io/service-name=kubernetes" } }),
    listed(kind("", "services")),
  ]);
  return {
    node: kind("", "nodes"),
    version,
    checks: ready.split("\n").filter((line) => /^\[[+-]\]/.test(line)),
    counted: metrics ? looked(metrics) : null,
    leases: leases.items,
    nodes: nodes.items,
    ranges: ranges.items,
    endpoints: endpoints.items,
    services: services.items,
  };
}

export function Architecture() {
  const [seen, setSeen] = useState(null);
  const before = useRef(null);
  useEffect(() => {
    document.title = `${t("Architecture")} · Peavine`;
    let ended = false;
    const again = async () => {
      if (document.hidden) return;
      try {
        const found = await look();
        if (ended) return;
        setSeen({ ...found, rates: found.counted && rates(before.current, found.counted) });
        before.current = found.counted;
      } catch {
        // The next look may succeed; what was seen stays.
      }
    };
    again();
    const second = setTimeout(again, SECOND_LOOK_MS);
    const timer = setInterval(again, REFRESH_MS);
    return () => {
      ended = true;
      clearTimeout(second);
      clearInterval(timer);
    };
  }, []);
  if (!seen) return <p>{t("Loading…")}</p>;
  const passed = seen.checks.filter((line) => line.startsWith("[+]")).length;
  const store = seen.checks.find((line) => /etcd|store/.test(line));
  const dns = seen.services.find((s) => s.metadata.namespace === "kube-system" && s.metadata.name === "kube-dns");
  const { counted } = seen;
  return (
    <section class="architecture">
      <h1>{t("Architecture")}</h1>
      <div class="tier">
        <Box title={t("Store")} good={store ? store.startsWith("[+]") : undefined}>
          <p>{store?.slice(3)}</p>
          {counted && <p>{counted.objects} {t("objects")}</p>}
        </Box>
        <span class="wire" aria-hidden="true" />
        <Box title={t("API server")} good={seen.checks.length ? passed === seen.checks.length : undefined}>
          <p>{seen.version.gitVersion} · {whoAmI()?.server}</p>
          {seen.checks.length > 0 && <p>{passed}/{seen.checks.length} {t("checks pass")}</p>}
          {seen.checks.filter((line) => line.startsWith("[-]")).map((line) => <p key={line} class="bad">{line}</p>)}
          <Rates rates={seen.rates} counted={counted} />
        </Box>
      </div>
      <div class="drop" aria-hidden="true" />
      <div class="tier">
        <Leader title={t("Controller manager")} name="kube-controller-manager" seen={seen} />
        <Leader title={t("Scheduler")} name="kube-scheduler" seen={seen} />
        <Box title={t("Proxies")} good={undefined}><p>{counted ? `${counted.watched.EndpointSlice || 0} ${t("watches of EndpointSlices are open")}` : t("nothing tells")}</p></Box>
        <Box title="DNS" good={dns ? true : undefined}><p>{dns ? `${dns.metadata.name} · ${dns.spec.clusterIP}` : t("nothing tells")}</p></Box>
      </div>
      <div class="drop" aria-hidden="true" />
      <div class="tier wide">{seen.nodes.map((node) => <Kubelet key={node.metadata.uid} node={node} seen={seen} />)}</div>
      <Networks seen={seen} dns={dns} />
    </section>
  );
}

function Rates({ rates, counted }) {
  if (!counted) return <p>{t("Request rates are in /metrics, which you may not read")}</p>;
  const number = (n) => n.toFixed(1);
  return (
    <div class="rates">
      <p>{rates ? `${number(rates.reads)} ${t("reads/s")} · ${number(rates.writes)} ${t("writes/s")} · ${number(rates.errors)} ${t("errors/s")}` : t("measuring…")}</p>
      <p>{counted.watches} {t("open watches")}</p>
      {rates && <ul>{rates.resources.map((r) => <li key={r.name}>{r.name} {number(r.rate)}/s</li>)}</ul>}
    </div>
  );
}

function Leader({ title, name, seen }) {
  const lease = seen.leases.find((l) => l.metadata.namespace === "kube-system" && l.metadata.name === name);
  if (lease) {
    const old = (Date.now() - Date.parse(lease.spec.renewTime)) / 1000;
    return <Box title={title} good={old < 2 * (lease.spec.leaseDurationSeconds || 15)}><p>{t("Held by")} {lease.spec.holderIdentity}</p><p>{t("renewed")} {age(lease.spec.renewTime)} {t("ago")}</p></Box>;
  }
  if (!seen.counted) return <Box title={title}><p>{t("nothing tells")}</p></Box>;
  const open = WATCHES[name].filter((kind) => seen.counted.watched[kind]);
  const good = open.length === WATCHES[name].length;
  return <Box title={title} good={good}><p>{t(good ? "connected: its watches are open" : "its watches are not open")}</p><p>{open.join(", ")}</p></Box>;
}

const internal = (node) => node.status?.addresses?.find((a) => a.type === "InternalIP")?.address;
const isReady = (node) => node.status?.conditions?.find((c) => c.type === "Ready")?.status === "True";

function Kubelet({ node, seen }) {
  const { name } = node.metadata;
  const beat = seen.leases.find((l) => l.metadata.namespace === "kube-node-lease" && l.metadata.name === name);
  return (
    <Box title={<a href={linkTo(seen.node, "", name)}>{name}</a>} good={isReady(node)}>
      <p>kubelet {node.status?.nodeInfo?.kubeletVersion}</p>
      <p>{node.status?.nodeInfo?.containerRuntimeVersion}</p>
      {beat && <p>{t("renewed")} {age(beat.spec.renewTime)} {t("ago")}</p>}
      <p>{internal(node)}</p>
      <p>{(node.spec.podCIDRs || []).join(", ")}</p>
    </Box>
  );
}

function Networks({ seen, dns }) {
  const addresses = seen.endpoints.flatMap((s) => (s.endpoints || []).flatMap((e) => e.addresses.map((a) => `${a}:${s.ports?.[0]?.port}`)));
  const kubernetes = seen.services.find((s) => s.metadata.namespace === "default" && s.metadata.name === "kubernetes");
  const taken = seen.services.filter((s) => s.spec.clusterIP && s.spec.clusterIP !== "None").length;
  const row = (address, of) => <p key={`${address} ${of}`}><code>{address}</code> {of}</p>;
  return (
    <>
      <h2>{t("The three networks")}</h2>
      <div class="networks">
        <div><h3>{t("Node network")}</h3>{seen.nodes.map((n) => row(internal(n), n.metadata.name))}{addresses.length > 0 && row(addresses.join(", "), t("API server"))}</div>
        <div><h3>{t("Pod network")}</h3>{seen.nodes.map((n) => row((n.spec.podCIDRs || []).join(", ") || "–", n.metadata.name))}</div>
        <div>
          <h3>{t("Service network")}</h3>
          {seen.ranges.map((r) => row(r.spec.cidrs.join(", "), r.metadata.name))}
          {kubernetes && row(kubernetes.spec.clusterIP, "kubernetes")}
          {dns && row(dns.spec.clusterIP, "kube-dns")}
          {taken > 0 && <p>{taken} {t("addresses are taken")}</p>}
        </div>
      </div>
    </>
  );
}

function Box({ title, good, children }) {
  return <div class={`box ${good === undefined ? "" : good ? "is-good" : "is-bad"}`}><h2><span class="dot" aria-hidden="true" />{title} <span class="sr">{good === undefined ? t("Unknown") : good ? t("Healthy") : t("Failed")}</span></h2>{children}</div>;
}
