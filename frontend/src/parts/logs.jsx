import { useEffect, useRef, useState } from "preact/hooks";
import { call, lines, pathOf } from "../api.js";
import { t } from "../words.js";

const LINES_MAX = 5000;

export const containersOf = (pod) => [...pod.spec.containers, ...(pod.spec.initContainers || []), ...(pod.spec.ephemeralContainers || [])].map((c) => c.name);

export function Logs({ kind, pod }) {
  const containers = containersOf(pod);
  const [container, setContainer] = useState(containers[0]);
  const [options, setOptions] = useState({ follow: true, previous: false, timestamps: false });
  const [search, setSearch] = useState("");
  const [kept, setKept] = useState([]);
  const [problem, setProblem] = useState("");
  const box = useRef();
  const atEnd = useRef(true);
  const path = pathOf(kind, pod.metadata.namespace, pod.metadata.name, "log");

  useEffect(() => {
    const ended = new AbortController();
    const waiting = [];
    let frame = 0;
    const show = () => {
      frame = 0;
      const arrived = waiting.splice(0);
      setKept((old) => [...old, ...arrived].slice(-LINES_MAX));
    };
    setKept([]);
    setProblem("");
    (async () => {
      try {
        const query = { container, tailLines: LINES_MAX, follow: options.follow && !options.previous, previous: options.previous, timestamps: options.timestamps };
        const answer = await call("GET", path, { query, accept: "*/*", signal: ended.signal });
        for await (const batch of lines(answer)) {
          waiting.push(...batch);
          frame ||= requestAnimationFrame(show);
        }
      } catch (error) {
        if (!ended.signal.aborted) setProblem(error.message);
      }
    })();
    return () => {
      ended.abort();
      cancelAnimationFrame(frame);
    };
  }, [path, container, options]);
  useEffect(() => {
    if (atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [kept]);

  const download = async () => {
    try {
      const answer = await call("GET", path, { query: { container, previous: options.previous, timestamps: options.timestamps }, accept: "*/*" });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await answer.blob());
      link.download = `${pod.metadata.name}-${container}.log`;
      link.click();
      URL.revokeObjectURL(link.href);
    } catch (error) {
      setProblem(error.message);
    }
  };
  const option = (name, words) => (
    <label class="check"><input type="checkbox" checked={options[name]} onChange={(e) => setOptions({ ...options, [name]: e.currentTarget.checked })} /> {t(words)}</label>
  );
  const wanted = search.toLowerCase();
  const found = wanted ? kept.filter((line) => line.toLowerCase().includes(wanted)) : kept;
  return (
    <div class="logs">
      <div class="bar">
        <select aria-label={t("Container")} value={container} onChange={(e) => setContainer(e.currentTarget.value)}>{containers.map((c) => <option key={c}>{c}</option>)}</select>
        {option("follow", "Follow")}{option("previous", "Previous")}{option("timestamps", "Timestamps")}
        <input type="search" placeholder={t("Search")} aria-label={t("Search")} value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
        <button onClick={download}>{t("Download")}</button>
        <span class="count">{found.length} {t("rows")}</span>
      </div>
      {problem && <p class="problem" role="alert">{problem}</p>}
      <pre class="code" ref={box} tabIndex={0} onScroll={(e) => (atEnd.current = e.currentTarget.scrollHeight - e.currentTarget.scrollTop - e.currentTarget.clientHeight < 40)}>{found.join("\n")}</pre>
    </div>
  );
}
