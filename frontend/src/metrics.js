// The API server's /metrics (Prometheus' text format), as far as the architecture page needs it.

const LINE = /^([a-z_]+)(?:\{(.*)\})? ([0-9.eE+-]+)$/;
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;

// [{name, labels, value}] of the named families only: the whole text is large.
export function samples(text, names) {
  const wanted = new Set(names);
  const found = [];
  for (const line of text.split("\n")) {
    if (line[0] === "#" || !wanted.has(line.slice(0, line.search(/[{ ]/)))) continue;
    const match = LINE.exec(line);
    if (match) found.push({ name: match[1], labels: Object.fromEntries([...(match[2] || "").matchAll(LABEL)].map((m) => [m[1], m[2]])), value: Number(match[3]) });
  }
  return found;
}

const READS = new Set(["GET", "LIST", "WATCH"]);

// What the page keeps of one look: counts of requests, open watches by kind, stored objects.
export function looked(text, now = performance.now()) {
  const seen = { at: now, reads: 0, writes: 0, errors: 0, watches: 0, objects: 0, resources: {}, watched: {} };
  for (const { name, labels, value } of samples(text, ["apiserver_request_total", "apiserver_registered_watchers", "apiserver_storage_objects"])) {
    if (name === "apiserver_request_total") {
      if (READS.has(labels.verb)) seen.reads += value;
      else seen.writes += value;
      if (labels.code >= "500") seen.errors += value;
      const resource = labels.resource || "–";
      seen.resources[resource] = (seen.resources[resource] || 0) + value;
    } else if (name === "apiserver_registered_watchers") {
      seen.watches += value;
      seen.watched[labels.kind] = (seen.watched[labels.kind] || 0) + value;
    } else seen.objects += Math.max(value, 0);
  }
  return seen;
}

// Requests a second between two looks. Null before the second, and when the server has started anew between them.
export function rates(before, now) {
  if (!before || now.at <= before.at || now.reads < before.reads) return null;
  const seconds = (now.at - before.at) / 1000;
  const per = (field) => (now[field] - before[field]) / seconds;
  const resources = Object.keys(now.resources)
    .map((name) => ({ name, rate: (now.resources[name] - (before.resources[name] || 0)) / seconds }))
    .filter((one) => one.rate > 0)
    .sort((a, b) => b.rate - a.rate);
  return { reads: per("reads"), writes: per("writes"), errors: per("errors"), resources: resources.slice(0, 6) };
}
