import { useEffect, useRef, useState } from "preact/hooks";
import { call, lines, pathOf } from "../api.js";
import { t } from "../words.js";

const LINES_MAX = 5000;
const ALL = "*";
const TONES = 6;
// More streams than this would take all connections that a browser has to one server: they are asked in turns.
const STREAMS_MAX = 3;
const TURN_MS = 2000;

export const containersOf = (pod) => [...pod.spec.containers, ...(pod.spec.initContainers || []), ...(pod.spec.ephemeralContainers || [])].map((c) => c.name);

// Lines come with the server's time stamps, so that those of several containers can be put in order.
function entry(container, line) {
  const space = line.indexOf(" ");
  return { container, time: line.slice(0, space), text: line.slice(space + 1) };
}

// Puts what has arrived behind what is there; streams of several containers interleave by time.
function merged(old, arrived) {
  const newest = old.at(-1)?.time || "";
  const all = [...old, ...arrived];
  if (arrived.some((e) => e.time < newest) || arrived.length > 1) all.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  return all.slice(-LINES_MAX);
}

// Keeps the last lines of the containers while they are followed.
function useLines(path, containers, options) {
  const [state, setState] = useState({ kept: [], problems: [] });
  const which = containers.join(" ");
  useEffect(() => {
    const ended = new AbortController();
    const waiting = [];
    let frame = 0;
    const show = () => {
      frame = 0;
      // What still came of another choice does not belong here.
      if (ended.signal.aborted) return;
      const arrived = waiting.splice(0);
      setState((old) => ({ ...old, kept: merged(old.kept, arrived) }));
    };
    setState({ kept: [], problems: [] });
    const follow = async (container) => {
      try {
        const query = { container, tailLines: LINES_MAX, follow: options.follow && !options.previous, previous: options.previous, timestamps: true };
        const answer = await call("GET", path, { query, accept: "*/*", signal: ended.signal });
        for await (const batch of lines(answer)) {
          for (const line of batch) waiting.push(entry(container, line));
          frame ||= requestAnimationFrame(show);
        }
      } catch (error) {
        if (!ended.signal.aborted) setState((old) => ({ ...old, problems: [...old.problems, `${container}: ${error.message}`] }));
      }
    };
    const inTurns = async () => {
      const last = {};
      do {
        for (const container of containers) {
          try {
            const since = last[container] ? { sinceTime: last[container].slice(0, 19) + "Z" } : { tailLines: LINES_MAX };
            const query = { container, ...since, previous: options.previous, timestamps: true };
            const text = await (await call("GET", path, { query, accept: "*/*", signal: ended.signal })).text();
            const fresh = text.split("\n").filter(Boolean).map((line) => entry(container, line)).filter((e) => e.time > (last[container] || ""));
            last[container] = fresh.at(-1)?.time || last[container];
            waiting.push(...fresh);
          } catch (error) {
            if (!ended.signal.aborted && !last[container]) setState((old) => ({ ...old, problems: [...new Set([...old.problems, `${container}: ${error.message}`])] }));
          }
        }
        show();
        await new Promise((resolve) => setTimeout(resolve, TURN_MS));
      } while (options.follow && !options.previous && !ended.signal.aborted);
    };
    if (containers.length > STREAMS_MAX) inTurns();
    else containers.forEach(follow);
    return () => {
      ended.abort();
      cancelAnimationFrame(frame);
    };
  }, [path, which, options.follow, options.previous]);
  return state;
}

// Containers that have no such log are left out, unless none has one.
async function whole(path, containers, options) {
  const answers = await Promise.allSettled(
    containers.map(async (container) => (await call("GET", path, { query: { container, previous: options.previous, timestamps: true }, accept: "*/*" })).text()),
  );
  if (answers.every((a) => a.status === "rejected")) throw answers[0].reason;
  const texts = answers.map((a) => a.value || "");
  const entries = texts.flatMap((text, i) => text.split("\n").filter(Boolean).map((line) => entry(containers[i], line)));
  if (containers.length > 1) entries.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  return entries.map((e) => plain(e, containers.length > 1, options.timestamps) + "\n").join("");
}

const plain = (e, prefixed, stamped) => `${prefixed ? `[${e.container}] ` : ""}${stamped ? `${e.time} ` : ""}${e.text}`;

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

export function Logs({ kind, pod }) {
  const names = containersOf(pod);
  const [chosen, setChosen] = useState(names[0]);
  const [options, setOptions] = useState({ follow: true, previous: false, timestamps: false });
  const [search, setSearch] = useState("");
  const [problem, setProblem] = useState("");
  const box = useRef();
  const atEnd = useRef(true);
  const all = chosen === ALL;
  const containers = all ? names : [chosen];
  const path = pathOf(kind, pod.metadata.namespace, pod.metadata.name, "log");
  const { kept, problems } = useLines(path, containers, options);
  useEffect(() => {
    if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [kept]);

  const download = async () => {
    setProblem("");
    try {
      save(`${pod.metadata.name}-${all ? "all" : chosen}.log`, await whole(path, containers, options));
    } catch (error) {
      setProblem(error.message);
    }
  };
  const option = (name, words) => (
    <label class="check"><input type="checkbox" checked={options[name]} onChange={(e) => setOptions({ ...options, [name]: e.currentTarget.checked })} /> {t(words)}</label>
  );
  const wanted = search.toLowerCase();
  const found = wanted ? kept.filter((e) => e.text.toLowerCase().includes(wanted)) : kept;
  return (
    <div class="logs">
      <div class="bar">
        <select aria-label={t("Container")} value={chosen} onChange={(e) => setChosen(e.currentTarget.value)}>
          {names.map((c) => <option key={c}>{c}</option>)}
          {names.length > 1 && <option value={ALL}>{t("All containers")}</option>}
        </select>
        {option("follow", "Follow")}{option("previous", "Previous")}{option("timestamps", "Timestamps")}
        <input type="search" placeholder={t("Search")} aria-label={t("Search")} value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
        <button onClick={download}>{t("Download")}</button>
        <span class="count">{found.length} {t("rows")}</span>
      </div>
      {[problem, ...problems].filter(Boolean).map((words) => <p key={words} class="problem" role="alert">{words}</p>)}
      <pre class="code" ref={box} tabIndex={0} role="log" aria-label={t("Logs")} onScroll={(e) => (atEnd.current = e.currentTarget.scrollHeight - e.currentTarget.scrollTop - e.currentTarget.clientHeight < 40)}>
        {all
          ? found.map((e, i) => <span key={i} class="line"><b class={`tone-${names.indexOf(e.container) % TONES}`}>[{e.container}]</b> {options.timestamps && `${e.time} `}{e.text}{"\n"}</span>)
          : found.map((e) => plain(e, false, options.timestamps)).join("\n")}
      </pre>
    </div>
  );
}
