import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { t } from "../words.js";

const ROW_PIXELS = 32;
const SPARE_ROWS = 12;
const SAMPLE_ROWS = 400;

const tone = (text) =>
  /^(Running|Ready|Bound|Active|Succeeded|Complete|Completed|True|Available)\b/.test(text) ? "good"
  : /(Error|Failed|BackOff|NotReady|Lost|Unknown|Evicted|OOM|Invalid|Warning)/.test(text) ? "bad"
  : /^(Pending|Terminating|ContainerCreating|Progressing|Init)/.test(text) ? "middling" : "";

// A table of which only the rows in sight exist. Widths come from a sample, so they do not jump while scrolling.
export function Rows({ rows, columns, keyOf }) {
  const box = useRef();
  const [view, setView] = useState({ top: 0, height: 600 });
  useLayoutEffect(() => {
    const measure = () => box.current && setView({ top: box.current.scrollTop, height: box.current.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const widths = useMemo(
    () =>
      columns.map((c) => {
        let longest = c.name.length + 2;
        for (const row of rows.slice(0, SAMPLE_ROWS)) longest = Math.max(longest, String(c.value(row) ?? "").length);
        return Math.min(Math.max(longest, 5), 52) + 3;
      }),
    [rows.length, columns.length, columns[0]?.name],
  );
  // After a search there may be fewer rows than were scrolled past.
  const top = Math.min(view.top, Math.max(0, rows.length * ROW_PIXELS - view.height));
  const first = Math.max(0, Math.floor(top / ROW_PIXELS) - SPARE_ROWS);
  const last = Math.min(rows.length, Math.ceil((top + view.height) / ROW_PIXELS) + SPARE_ROWS);
  const total = widths.reduce((a, b) => a + b, 0);
  return (
    <div class="rows" ref={box} tabIndex={0} onScroll={(e) => setView({ top: e.currentTarget.scrollTop, height: e.currentTarget.clientHeight })}>
      {!rows.length && <p class="nothing">{t("Nothing here")}</p>}
      <table aria-rowcount={rows.length} style={{ minWidth: `${total}ch` }}>
        <colgroup>{columns.map((c, i) => <col key={c.name} style={{ width: `${(100 * widths[i]) / total}%` }} />)}</colgroup>
        <thead>
          <tr>
            {columns.map((c) => (
              <th key={c.name} scope="col" title={c.title} aria-sort={c.sorted}>
                {c.onSort ? <button onClick={c.onSort}>{t(c.name)}{c.sorted ? (c.sorted === "ascending" ? " ▲" : " ▼") : ""}</button> : t(c.name)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 && <tr key="above" aria-hidden="true" style={{ height: `${first * ROW_PIXELS}px` }} />}
          {rows.slice(first, last).map((row, i) => (
            <tr key={keyOf(row)} aria-rowindex={first + i + 1}>
              {columns.map((c) => {
                const text = String(c.value(row) ?? "");
                return <td key={c.name} class={c.link ? "" : tone(text)} title={text.length > 20 ? text : undefined}>{c.link ? <a href={c.link(row)}>{text}</a> : text}</td>;
              })}
            </tr>
          ))}
          {last < rows.length && <tr key="below" aria-hidden="true" style={{ height: `${(rows.length - last) * ROW_PIXELS}px` }} />}
        </tbody>
      </table>
    </div>
  );
}
