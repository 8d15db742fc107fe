import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { columns } from "../history.js";
import { t } from "../words.js";

const HEIGHT = 150;
// Told apart by eyes that see fewer colours too, on light and on dark.
const COLOURS = ["#2a8f5b", "#3a7bd5", "#c77700", "#b84ec0", "#d0483e", "#168f9c", "#8a7a00", "#7a6ff0"];
const GAP_SECONDS = 50;

// Lines over time: `series` as the history tells them, `field` "cpu" or "memory".
export function Graph({ title, series, field, text }) {
  const box = useRef();
  const plot = useRef();
  const names = Object.keys(series);
  const key = names.join(" ");
  const dark = useDark();
  useEffect(() => {
    const element = box.current;
    const style = getComputedStyle(document.documentElement);
    const soft = style.getPropertyValue("--soft");
    const axis = { stroke: soft, grid: { stroke: style.getPropertyValue("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const line = (name, i) => ({ label: name, stroke: COLOURS[i % COLOURS.length], width: 2, points: { show: true, size: 4 }, spanGaps: true, gaps });
    plot.current = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { drag: { x: false, y: false } },
        scales: { x: { range: lastMinutes }, y: { range: (_, __, high) => [0, high * 1.1 || 1] } },
        series: [{}, ...names.map(line)],
        axes: [{ ...axis, space: 70, values: clockTimes }, { ...axis, size: 72, values: (_, ticks) => ticks.map(text) }],
      },
      columns(series, field),
      element,
    );
    const observer = new ResizeObserver(() => plot.current.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current.destroy();
    };
  }, [key, field, dark]);
  useEffect(() => plot.current.setData(columns(series, field)), [series, field]);
  const last = (name) => text(series[name][field].at(-1));
  return (
    <figure class="plot">
      <figcaption>{title}</figcaption>
      <div ref={box} role="img" aria-label={`${title}: ${names.map((name) => `${name} ${last(name)}`).join(", ")}`} />
      <ul class="legend">{names.map((name, i) => <li key={name}><Swatch i={i} /> {name} <b>{last(name)}</b></li>)}</ul>
      {!names.length && <p class="nothing">{t("No metrics")}</p>}
    </figure>
  );
}

const Swatch = ({ i }) => <svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" rx="2" fill={COLOURS[i % COLOURS.length]} /></svg>;

// The canvas does not follow the style sheet by itself.
function useDark() {
  const asked = matchMedia("(prefers-color-scheme: dark)");
  const [dark, setDark] = useState(asked.matches);
  useEffect(() => {
    const changed = () => setDark(asked.matches);
    asked.addEventListener("change", changed);
    return () => asked.removeEventListener("change", changed);
  }, []);
  return dark;
}

const clockTimes = (_, ticks) => ticks.map((seconds) => new Date(seconds * 1000).toTimeString().slice(0, ticks[1] - ticks[0] < 60 ? 8 : 5));

// All that there is, and a minute at least.
function lastMinutes({ data: [times] }) {
  const last = times.at(-1) ?? Date.now() / 1000;
  return [Math.min(times[0] ?? last, last - 60), last];
}

// A line is broken where nobody was logged in to sample it.
function gaps(u, seriesIndex, from, to) {
  const times = u.data[0];
  const values = u.data[seriesIndex];
  const found = [];
  let before = -1;
  for (let i = from; i <= to; i += 1) {
    if (values[i] == null) continue;
    if (before >= 0 && times[i] - times[before] > GAP_SECONDS) found.push([u.valToPos(times[before], "x", true), u.valToPos(times[i], "x", true)].map(Math.round));
    before = i;
  }
  return found;
}
