import { useEffect, useRef, useState } from "preact/hooks";
import { call, pathOf } from "../api.js";
import { evictAll, planned } from "../drain.js";
import { t } from "../words.js";
import { Dialog } from "./dialog.jsx";

const WHY = { daemonset: "its DaemonSet would bring it back here", static: "static, of the node itself", orphan: "no controller would bring it back", emptyDir: "it would lose what is in its emptyDir" };

export function Drain({ kind, node, onClose }) {
  const [force, setForce] = useState(false);
  const [plan, setPlan] = useState(null);
  const [state, setState] = useState(null);
  const [problem, setProblem] = useState("");
  const [done, setDone] = useState(false);
  const ending = useRef(new AbortController());
  const { name } = node.metadata;
  useEffect(() => () => ending.current.abort(), []);
  useEffect(() => {
    planned(name, force).then(setPlan, (error) => setProblem(error.message));
  }, [name, force]);
  const begin = async (event) => {
    event.preventDefault();
    setProblem("");
    try {
      await call("PATCH", pathOf(kind, "", name), { body: { spec: { unschedulable: true } }, type: "application/merge-patch+json" });
      await evictAll((await planned(name, force)).evict, ending.current.signal, setState);
      if (!ending.current.signal.aborted) setDone(true);
    } catch (error) {
      setProblem(error.message);
    }
  };
  const left = (plan?.stay || []).filter(({ why }) => why === "orphan" || why === "emptyDir");
  return (
    <Dialog title={`${t("Drain")}: ${name}`} onClose={onClose}>
      <form onSubmit={begin}>
        <p>{t("Stop scheduling here and evict its pods?")}</p>
        {!state && plan && <p>{plan.evict.length} {t("Pods")}</p>}
        {!state && plan?.stay.length > 0 && <ul class="states">{plan.stay.map(({ pod, why }) => <li key={pod.metadata.uid}>{pod.metadata.namespace}/{pod.metadata.name}: {t("stays")}, {t(WHY[why])}</li>)}</ul>}
        {!state && (left.length > 0 || force) && <label class="check"><input type="checkbox" checked={force} onChange={(e) => setForce(e.currentTarget.checked)} /> {t("Evict these as well")}</label>}
        {state && <div role="status"><ul class="states">{Object.entries(state).map(([id, words]) => <li key={id} class={words === "gone" ? "good" : ""}>{id}: {t(words)}</li>)}</ul></div>}
        {done && <p class="done" role="status">{t("Drained")}</p>}
        {problem && <p class="problem" role="alert">{problem}</p>}
        <div class="actions">
          <button type="button" onClick={onClose}>{t(done ? "Close" : state ? "Stop waiting" : "Cancel")}</button>
          {!state && <button class="danger" disabled={!plan}>{t("Drain")}</button>}
        </div>
      </form>
    </Dialog>
  );
}
