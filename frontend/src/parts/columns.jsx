import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { t } from "../words.js";

// Boxes in columns with lines between them, drawn where the boxes stand. A box: {id, column, name, detail, tone, href,
// about}; a line: [from, to, words, tone] by id. `chosen` is an id; what it leads to or comes from is lit.
export function Columns({ titles, boxes, lines, chosen, onChoose, lit = connected }) {
  const [paths, setPaths] = useState([]);
  const area = useRef();
  const known = lines.filter(([a, b]) => boxes.some((box) => box.id === a) && boxes.some((box) => box.id === b));
  useLayoutEffect(() => {
    const draw = () => {
      const origin = area.current.getBoundingClientRect();
      const place = new Map([...area.current.querySelectorAll("[data-id]")].map((e) => [e.dataset.id, e.getBoundingClientRect()]));
      setPaths(
        known.flatMap(([from, to, words, tone]) => {
          const [a, b] = [place.get(from), place.get(to)];
          if (!a || !b) return [];
          const [x, y] = [a.right - origin.left, a.top + a.height / 2 - origin.top];
          const [x2, y2] = [b.left - origin.left, b.top + b.height / 2 - origin.top];
          const middle = (x + x2) / 2;
          return [{ from, to, words, tone, d: `M${x},${y} C${middle},${y} ${middle},${y2} ${x2},${y2}` }];
        }),
      );
    };
    draw();
    const observer = new ResizeObserver(draw);
    observer.observe(area.current);
    return () => observer.disconnect();
  }, [boxes, lines]);
  const shown = chosen ? lit(known, chosen) : null;
  const isLit = (p) => shown.has(p.from) && shown.has(p.to);
  return (
    <div class="graph-scroll" tabIndex={0} role="region" aria-label={titles.map(t).join(", ")}>
      <div class={`graph of-${titles.length}`} ref={area}>
        <svg aria-hidden="true">{paths.map((p) => <path key={`${p.from} ${p.to}`} d={p.d} class={`${p.tone || ""} ${!shown ? "" : isLit(p) ? "lit" : "dim"}`}>{p.words && <title>{p.words}</title>}</path>)}</svg>
        {titles.map((title, i) => (
          <div class="column" key={title}>
            <h2>{t(title)}</h2>
            {boxes.filter((b) => b.column === i).map((b) => (
              <div key={b.id} data-id={b.id} class={`knot ${shown && !shown.has(b.id) ? "dim" : ""} ${chosen === b.id ? "chosen" : ""}`}>
                {onChoose
                  ? <button onClick={() => onChoose(chosen === b.id ? "" : b.id)} aria-pressed={chosen === b.id} title={b.name}><Name box={b} /></button>
                  : <strong><Name box={b} /></strong>}
                {[b.detail].flat().filter(Boolean).map((words) => <span key={words}>{words}</span>)}
                {b.href && <a href={b.href} aria-label={`${b.about || ""} ${b.name}`}>→</a>}
              </div>
            ))}
          </div>
        ))}
      </div>
    </div>
  );
}

const Name = ({ box }) => <>{box.tone && <span class={box.tone}>● </span>}{box.name}</>;

// Everything that a chosen box leads to, and that leads to it.
function connected(lines, chosen) {
  const reach = (from, to) => {
    const found = new Set([chosen]);
    for (let grown = true; grown; ) {
      grown = false;
      for (const line of lines)
        if (found.has(line[from]) && !found.has(line[to])) {
          found.add(line[to]);
          grown = true;
        }
    }
    return found;
  };
  return new Set([...reach(0, 1), ...reach(1, 0)]);
}
