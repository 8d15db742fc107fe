// What the dashboard's own process remembers of metrics: asked again and again while the page is in sight.

import { useEffect, useState } from "preact/hooks";
import { call, discover, may } from "./api.js";

const REFRESH_MS = 15_000;

// {series: {name: {time, cpu, memory}}}; null while unknown or where there are no metrics for this user.
export function useHistory(scope, query = "") {
  const [told, setTold] = useState(null);
  useEffect(() => {
    const ended = new AbortController();
    let timer = 0;
    const ask = async () => {
      try {
        if (!document.hidden) setTold(await (await call("GET", `/${scope}${query}`, { root: "/api/history", signal: ended.signal })).json());
      } catch (error) {
        if (ended.signal.aborted) return;
        setTold(null);
        // Without the right, or without metrics, there is nothing to wait for.
        if (error.status === 403 || error.status === 404) return;
      }
      timer = setTimeout(ask, REFRESH_MS);
    };
    // Where metrics are not served, or not for this user, nothing is asked.
    const [, namespace] = /^namespaces\/(.*)\/pods$/.exec(scope) || [];
    const served = async () => {
      const kind = (await discover()).find((k) => k.group === "metrics.k8s.io" && k.plural === (scope === "nodes" ? "nodes" : "pods"));
      return kind && (await may("list", kind, { namespace }));
    };
    served().then((yes) => yes && !ended.signal.aborted && ask(), () => {});
    return () => {
      ended.abort();
      clearTimeout(timer);
    };
  }, [scope, query]);
  return told;
}

// uPlot's columns: one common time line, a value or a gap for each series.
export function columns(series, field) {
  const times = [...new Set(Object.values(series).flatMap((s) => s.time))].sort((a, b) => a - b);
  const at = new Map(times.map((time, i) => [time, i]));
  const lines = Object.values(series).map((s) => {
    const line = new Array(times.length).fill(null);
    s.time.forEach((time, i) => (line[at.get(time)] = s[field][i]));
    return line;
  });
  return [times, ...lines];
}
