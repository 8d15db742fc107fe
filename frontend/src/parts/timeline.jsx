import { age, t } from "../words.js";

const WIDTH = 1000;
const ROW = 26;
const MARKS = { Unhealthy: "bad", BackOff: "bad", Failed: "bad", Killing: "middling", ProbeWarning: "middling", Started: "good", Created: "good", Pulled: "good" };

const when = (text) => (text ? Date.parse(text) : NaN);

// The spans and marks of a container: what its status tells of now and of the last end, and the events about it.
function historyOf(name, status, events, now) {
  const spans = [];
  const last = status?.lastState?.terminated;
  if (last) spans.push({ from: when(last.startedAt), to: when(last.finishedAt), tone: last.exitCode ? "bad" : "good", words: `${last.reason || t("ended")}, ${t("exit code")} ${last.exitCode}` });
  const { running, terminated, waiting } = status?.state || {};
  if (running) spans.push({ from: when(running.startedAt), to: now, tone: status.ready ? "good" : "middling", words: t(status.ready ? "running and ready" : "running, not ready") });
  if (terminated) spans.push({ from: when(terminated.startedAt), to: when(terminated.finishedAt), tone: terminated.exitCode ? "bad" : "good", words: `${terminated.reason || t("ended")}, ${t("exit code")} ${terminated.exitCode}` });
  if (waiting && last) spans.push({ from: when(last.finishedAt), to: now, tone: "middling", words: waiting.reason || t("waiting") });
  const marks = events
    .filter((e) => e.involvedObject?.fieldPath?.endsWith(`{${name}}`) && e.reason in MARKS)
    .flatMap((e) => {
      const first = when(e.firstTimestamp || e.eventTime || e.metadata.creationTimestamp);
      const latest = when(e.lastTimestamp || e.series?.lastObservedTime) || first;
      const count = e.count || e.series?.count || 1;
      const words = `${e.reason}${count > 1 ? ` ×${count}` : ""}: ${e.message}`;
      return [...new Set([first, latest])].map((at) => ({ at, tone: MARKS[e.reason], words, reason: e.reason }));
    });
  return { spans: spans.filter((s) => s.from && s.to), marks: marks.filter((m) => m.at) };
}

// Restarts and probes of a pod's containers on a time line, and the same in words.
export function Timeline({ pod, events }) {
  const now = Date.now();
  const statuses = [...(pod.status?.initContainerStatuses || []), ...(pod.status?.containerStatuses || [])];
  const rows = statuses.map((status) => ({ name: status.name, restarts: status.restartCount, ...historyOf(status.name, status, events, now) }));
  const times = rows.flatMap((r) => [...r.spans.flatMap((s) => [s.from, s.to]), ...r.marks.map((m) => m.at)]);
  if (!times.length) return null;
  const start = Math.min(when(pod.metadata.creationTimestamp) || now, ...times);
  const end = Math.max(now, ...times);
  const x = (time) => (WIDTH * (time - start)) / Math.max(end - start, 1000);
  const words = rows.flatMap((r) => [
    ...r.spans.map((s) => ({ at: s.from, name: r.name, tone: s.tone, text: `${s.words} (${age(new Date(s.from), s.to)})` })),
    ...r.marks.map((m) => ({ at: m.at, name: r.name, tone: m.tone, text: m.words })),
  ]).sort((a, b) => b.at - a.at);
  return (
    <>
      <h2>{t("Restarts and probes")}</h2>
      <div class="timeline">
        {rows.map((row) => (
          <div class="timeline-row" key={row.name}>
            <span>{row.name} · {row.restarts} {t("restarts")}</span>
            <svg viewBox={`0 0 ${WIDTH} ${ROW}`} preserveAspectRatio="none" role="img" aria-label={`${row.name}: ${row.spans.map((s) => s.words).join(", ")}`}>
              {row.spans.map((s) => <rect key={s.from} class={s.tone} x={x(s.from)} y={5} width={Math.max(x(s.to) - x(s.from), 3)} height={ROW - 10} rx={2}><title>{s.words}</title></rect>)}
              {row.marks.map((m, i) => <rect key={i} class={`mark ${m.tone}`} x={Math.min(x(m.at), WIDTH - 4)} y={0} width={4} height={ROW}><title>{m.words}</title></rect>)}
            </svg>
          </div>
        ))}
        <div class="timeline-row axis"><span /><span>{age(new Date(start), now)} {t("ago")}</span><span>{t("now")}</span></div>
      </div>
      <details>
        <summary>{t("The same in words")}</summary>
        <div class="scroll" tabIndex={0}><table class="plain"><tbody>
          {words.map((w, i) => <tr key={i}><td>{age(new Date(w.at), now)}</td><td>{w.name}</td><td class={`wrap ${w.tone}`}>{w.text}</td></tr>)}
        </tbody></table></div>
      </details>
    </>
  );
}
