// The only door to the server: the session, requests with its CSRF token, lists as tables, watches, rights.

const ROOT = "/api/k8s";
const TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PAGE_ROWS = 1000;
const ATTEMPTS = 10;

export class Failure extends Error {
  constructor(status, message, body) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

let session = null;
let onEnd = () => {};
export const whoAmI = () => session;
export const whenSessionEnds = (callback) => (onEnd = callback);

async function failure(answer) {
  const text = await answer.text();
  try {
    const status = JSON.parse(text);
    return new Failure(answer.status, status.message || text, status);
  } catch {
    return new Failure(answer.status, text || answer.statusText);
  }
}

// A browser has six connections to one server and may keep a page that was left for going back to: its streams must not
// hold them. Who comes back begins anew.
const leaving = new AbortController();
addEventListener("pagehide", () => leaving.abort());
addEventListener("pageshow", (event) => event.persisted && location.reload());

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// fetch, again if the connection broke: a browser breaks every connection when the machine's network changes, which a
// container's start is enough for. Only for requests that may reach the server twice.
async function persistently(address, options) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await fetch(address, options);
    } catch (error) {
      if (options?.signal?.aborted || leaving.signal.aborted || attempt === ATTEMPTS) throw error;
      await pause(Math.min(250 * attempt, 1000));
    }
  }
}

export async function resume() {
  const answer = await persistently("/api/session");
  const told = answer.ok ? await answer.json() : {};
  session = told.user ? told : null;
  return session;
}

export async function logIn(credentials) {
  const answer = await persistently("/api/login", {
    method: "POST",
    headers: { "content-type": "application/json", "x-peavine-csrf": "login" },
    body: JSON.stringify(credentials),
  });
  if (!answer.ok) throw await failure(answer);
  session = await answer.json();
  forget();
  return session;
}

export async function logOut() {
  await persistently("/api/logout", { method: "POST", headers: { "x-peavine-csrf": session.csrf } });
  session = null;
  forget();
  onEnd();
}

function forget() {
  rights.clear();
  discovered = null;
}

export function url(path, query = {}, root = ROOT) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const text = new URLSearchParams(given).toString();
  return root + path + (text ? "?" + text : "");
}

export async function call(method, path, { query, body, type = "application/json", accept, signal, root } = {}) {
  const headers = { accept: accept || "application/json" };
  if (method !== "GET") headers["x-peavine-csrf"] = session?.csrf || "";
  if (body !== undefined) headers["content-type"] = type;
  // What is created or replaced twice is not the same as once.
  const once = (method === "POST" && !path.includes("/selfsubject")) || (method === "PUT" && !query?.dryRun);
  const answer = await (once ? fetch : persistently)(url(path, query, root), {
    method,
    headers,
    signal: signal ? AbortSignal.any([signal, leaving.signal]) : leaving.signal,
    body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
  });
  if (answer.status === 401) {
    session = null;
    onEnd();
  }
  if (!answer.ok) throw await failure(answer);
  return answer;
}

export const get = async (path, query, more) => (await call("GET", path, { query, ...more })).json();

// --- what there is -------------------------------------------------------------------------------------------------
let discovered = null;

// Asked once; `again` asks anew, for what was defined meanwhile.
export function discover(again) {
  if (again) discovered = null;
  discovered ??= Promise.all([groups("/api"), groups("/apis")]).then((lists) => lists.flat());
  discovered.catch(() => (discovered = null));
  return discovered;
}

async function groups(root) {
  const accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
  const list = await get(root, {}, { accept });
  const found = [];
  for (const group of list.items) {
    const seen = new Set();
    for (const version of group.versions) {
      for (const r of version.resources || []) {
        // Versions come in the order of preference: the first that has a resource is the one to use.
        if (seen.has(r.resource) || !r.verbs.includes("list")) continue;
        seen.add(r.resource);
        found.push({
          group: group.metadata?.name || "",
          version: version.version,
          plural: r.resource,
          kind: r.responseKind.kind,
          namespaced: r.scope === "Namespaced",
          verbs: r.verbs,
          short: r.shortNames || [],
          subresources: (r.subresources || []).map((s) => s.subresource),
        });
      }
    }
  }
  return found;
}

export function pathOf(kind, namespace, name, subresource) {
  let path = kind.group ? `/apis/${kind.group}/${kind.version}` : `/api/${kind.version}`;
  if (kind.namespaced && namespace) path += `/namespaces/${encodeURIComponent(namespace)}`;
  path += `/${kind.plural}`;
  if (name) path += `/${encodeURIComponent(name)}`;
  return subresource ? `${path}/${subresource}` : path;
}

export async function kindOf(apiVersion, kindName) {
  const [group, version] = apiVersion.includes("/") ? apiVersion.split("/") : ["", apiVersion];
  const all = await discover();
  const of = all.filter((k) => k.group === group && k.kind === kindName);
  return of.find((k) => k.version === version) || of[0];
}

// --- rights ----------------------------------------------------------------------------------------------------------
const rights = new Map();

// Whether the user may; one question to the API server for each, asked once.
export function may(verb, kind, { namespace, name, subresource } = {}) {
  if (session.readOnly && !["get", "list", "watch"].includes(verb)) return Promise.resolve(false);
  // A path outside the resources, as /metrics: {path}.
  const attributes = kind.path ? { verb, path: kind.path } : { verb, group: kind.group, resource: kind.plural, subresource, namespace, name };
  const key = JSON.stringify(attributes);
  if (!rights.has(key)) {
    const asked = call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {
      body: {
        apiVersion: "authorization.k8s.io/v1",
        kind: "SelfSubjectAccessReview",
        spec: { [kind.path ? "nonResourceAttributes" : "resourceAttributes"]: attributes },
      },
    })
      .then((answer) => answer.json())
      .then((review) => !!review.status?.allowed);
    asked.catch(() => rights.delete(key));
    rights.set(key, asked);
  }
  return rights.get(key);
}

// The list of a kind that discovery told; empty where it is not served, not allowed, or does not answer. What the user
// may not list is not asked for.
export async function listed(kind, { namespace, query, ...more } = {}) {
  const none = { items: [], metadata: {} };
  try {
    return kind && (await may("list", kind, { namespace })) ? await get(pathOf(kind, namespace), query, more) : none;
  } catch {
    return none;
  }
}

// --- lists and watches -------------------------------------------------------------------------------------------------
// A whole list as one Table, page by page.
export async function table(path, query, signal) {
  let whole = null;
  let next = "";
  do {
    const page = await get(path, { limit: PAGE_ROWS, ...query, continue: next }, { accept: TABLE, signal });
    if (whole) whole.rows.push(...(page.rows || []));
    else whole = { ...page, rows: page.rows || [] };
    whole.metadata = { ...whole.metadata, resourceVersion: page.metadata?.resourceVersion };
    next = page.metadata?.continue || "";
  } while (next);
  return whole;
}

// Lines of a streamed answer, in the batches in which they arrive.
export async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) break;
    const found = (rest + value).split("\n");
    rest = found.pop();
    if (found.length) yield found;
  }
  if (rest) yield [rest];
}

// Keeps `state` = {list, changes} told until `signal` aborts: the list, then batches of events; again from the list
// when the server has forgotten where we were.
export async function follow(path, { query = {}, asTable = true, signal, onList, onEvents, onProblem }) {
  let failures = 0;
  while (!signal.aborted) {
    try {
      const list = asTable ? await table(path, query, signal) : await get(path, query, { signal });
      onList(list);
      onProblem?.(null);
      failures = 0;
      let version = list.metadata.resourceVersion;
      while (!signal.aborted) {
        const answer = await call("GET", path, {
          query: { ...query, watch: 1, resourceVersion: version, allowWatchBookmarks: true, limit: undefined },
          accept: asTable ? TABLE : undefined,
          signal,
        });
        for await (const batch of lines(answer)) {
          const events = batch.map((line) => JSON.parse(line));
          const error = events.find((event) => event.type === "ERROR");
          if (error) throw new Failure(error.object.code, error.object.message);
          for (const event of events) {
            const row = asTable ? event.object.rows?.[0] : null;
            version = (row?.object || event.object).metadata?.resourceVersion || version;
          }
          onEvents(events.filter((event) => event.type !== "BOOKMARK"));
        }
        await pause(200);
      }
    } catch (error) {
      if (signal.aborted || leaving.signal.aborted) return;
      if (error.status === 403 || error.status === 404 || error.status === 401 || error.status === 405) {
        onProblem?.(error);
        return;
      }
      if (error.status !== 410) onProblem?.(error);
      failures += 1;
      await pause(Math.min(1000 * failures, 10000));
    }
  }
}
