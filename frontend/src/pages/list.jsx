import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { follow, get, may, pathOf } from "../api.js";
import { linkTo } from "../sections.js";
import { Rows } from "../parts/rows.jsx";
import { age, t } from "../words.js";

// Rows of a Table by uid: events change a Map, and one repaint a frame shows what came meanwhile.
function useTable(kind, namespace, labels) {
  const [state, setState] = useState({ columns: [], rows: null, problem: null });
  useEffect(() => {
    const ended = new AbortController();
    const rows = new Map();
    let columns = [];
    let frame = 0;
    const show = () => {
      frame = 0;
      setState((old) => ({ ...old, columns, rows: [...rows.values()] }));
    };
    const changed = () => (frame ||= requestAnimationFrame(show));
    const keep = (row) => rows.set(row.object.metadata.uid || row.object.metadata.namespace + "/" + row.object.metadata.name, row);
    setState({ columns: [], rows: null, problem: null });
    follow(pathOf(kind, namespace), {
      query: { labelSelector: labels },
      signal: ended.signal,
      onProblem: (problem) => setState((old) => ({ ...old, problem })),
      onList: (list) => {
        columns = list.columnDefinitions;
        rows.clear();
        list.rows.forEach(keep);
        changed();
      },
      onEvents: (events) => {
        for (const { type, object } of events)
          for (const row of object.rows || []) {
            if (type === "DELETED") rows.delete(row.object.metadata.uid);
            else keep(row);
          }
        changed();
      },
    });
    return () => {
      ended.abort();
      cancelAnimationFrame(frame);
    };
  }, [kind, namespace, labels]);
  return state;
}

export function List({ kind, query }) {
  const [namespace, setNamespace] = useState(query.get("ns") ?? localStorage.getItem("namespace") ?? "");
  const [namespaces, setNamespaces] = useState([]);
  const [labels, setLabels] = useState(query.get("labels") || "");
  const [search, setSearch] = useState(query.get("q") || "");
  const [sort, setSort] = useState({ column: -1, down: false });
  const { columns, rows, problem } = useTable(kind, kind.namespaced ? namespace : "", labels);
  const box = useRef();

  useEffect(() => {
    document.title = `${kind.kind} · Peavine`;
    if (kind.namespaced)
      get("/api/v1/namespaces").then((list) => setNamespaces(list.items.map((n) => n.metadata.name)), () => setNamespaces([]));
    const slash = (event) => {
      if (event.key === "/" && !/INPUT|TEXTAREA|SELECT/.test(event.target.tagName)) {
        event.preventDefault();
        box.current?.focus();
      }
    };
    addEventListener("keydown", slash);
    return () => removeEventListener("keydown", slash);
  }, [kind]);

  const shown = useMemo(() => columns.map((c, i) => ({ ...c, i })).filter((c) => !c.priority), [columns]);
  const withNamespace = kind.namespaced && !namespace;
  const found = useMemo(() => {
    if (!rows) return [];
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const text = (row) => `${row.object.metadata.namespace || ""} ${row.cells.join(" ")}`.toLowerCase();
    const left = words.length ? rows.filter((row) => ((s) => words.every((w) => s.includes(w)))(text(row))) : [...rows];
    const collator = new Intl.Collator(undefined, { numeric: true });
    const name = (row) => `${row.object.metadata.namespace || ""}/${row.object.metadata.name}`;
    const by = columns[sort.column]?.name === "Age" ? (row) => -Date.parse(row.object.metadata.creationTimestamp) : (row) => row.cells[sort.column];
    if (sort.column < 0) left.sort((a, b) => (name(a) < name(b) ? -1 : 1));
    else
      left.sort((a, b) => {
        const [x, y] = [by(a), by(b)];
        return typeof x === "number" && typeof y === "number" ? x - y : collator.compare(x ?? "", y ?? "");
      });
    if (sort.down) left.reverse();
    return left;
  }, [rows, search, sort, columns]);

  const choose = (value) => {
    setNamespace(value);
    localStorage.setItem("namespace", value);
  };
  return (
    <section class="list">
      <div class="bar">
        <h1>{kind.kind}</h1>
        {kind.namespaced && (
          <select aria-label={t("Namespace")} value={namespace} onChange={(e) => choose(e.currentTarget.value)}>
            <option value="">{t("All namespaces")}</option>
            {[...new Set([...namespaces, ...(namespace ? [namespace] : [])])].map((n) => <option key={n}>{n}</option>)}
          </select>
        )}
        <input type="search" ref={box} placeholder={`${t("Search")}  /`} aria-label={t("Search")} value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
        <input type="search" placeholder={t("Label selector")} aria-label={t("Label selector")} value={labels} onChange={(e) => setLabels(e.currentTarget.value.trim())} />
        <span class="count" aria-live="polite">{rows ? `${found.length}${found.length !== rows.length ? ` ${t("of")} ${rows.length}` : ""} ${t("rows")}` : t("Loading…")}</span>
      </div>
      {problem && <p class="problem" role="alert">{problem.message}</p>}
      {rows && (
        <Rows
          rows={found}
          columns={[
            ...(withNamespace ? [{ name: "Namespace", value: (row) => row.object.metadata.namespace }] : []),
            ...shown.map((c) => ({
              name: c.name,
              title: c.description,
              sorted: sort.column === c.i ? (sort.down ? "descending" : "ascending") : undefined,
              onSort: () => setSort({ column: c.i, down: sort.column === c.i && !sort.down }),
              value: (row) => (c.name === "Age" ? age(row.object.metadata.creationTimestamp) : String(row.cells[c.i] ?? "")),
              link: c.name === "Name" ? (row) => linkTo(kind, row.object.metadata.namespace, row.object.metadata.name) : undefined,
            })),
          ]}
          keyOf={(row) => row.object.metadata.uid}
        />
      )}
    </section>
  );
}
