import { useState } from "preact/hooks";
import { call, pathOf } from "../api.js";
import { t } from "../words.js";
import { Dialog } from "./dialog.jsx";
import { Drain } from "./drain.jsx";

const MERGE = "application/merge-patch+json";
const STRATEGIC = "application/strategic-merge-patch+json";
const WORDS = { scale: "Scale", delete: "Delete" };
const RESTARTABLE = ["deployments", "statefulsets", "daemonsets"];

const isOver = (job) => job.status?.conditions?.some((c) => ["Complete", "Failed"].includes(c.type) && c.status === "True");

// Buttons for what the user may do with this object; what they may not do is not drawn.
export function Actions({ kind, object, rights }) {
  const [asking, setAsking] = useState("");
  const [problem, setProblem] = useState("");
  const [replicas, setReplicas] = useState(0);
  const { namespace, name } = object.metadata;
  const path = pathOf(kind, namespace, name);

  const act = async (work) => {
    setProblem("");
    try {
      await work();
      // Only a dialog's own work closes it: another may have been opened meanwhile.
      if (asking) setAsking("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  const patch = (body, type = MERGE, subresource) => act(() => call("PATCH", pathOf(kind, namespace, name, subresource), { body, type }));
  const scale = () => patch({ spec: { replicas } }, MERGE, "scale");
  const remove = () =>
    act(() => call("DELETE", path, { body: { kind: "DeleteOptions", apiVersion: "v1", propagationPolicy: "Background", preconditions: { uid: object.metadata.uid } } }));
  const restart = () =>
    patch({ spec: { template: { metadata: { annotations: { "kubectl.kubernetes.io/restartedAt": new Date().toISOString().replace(/\.\d+/, "") } } } } }, STRATEGIC);
  const trigger = () =>
    act(() =>
      call("POST", `/apis/batch/v1/namespaces/${namespace}/jobs`, {
        body: {
          apiVersion: "batch/v1",
          kind: "Job",
          metadata: {
            generateName: `${name.slice(0, 45)}-manual-`,
            namespace,
            labels: object.spec.jobTemplate.metadata?.labels,
            annotations: { ...object.spec.jobTemplate.metadata?.annotations, "cronjob.kubernetes.io/instantiate": "manual" },
            ownerReferences: [{ apiVersion: "batch/v1", kind: "CronJob", name, uid: object.metadata.uid, controller: true }],
          },
          spec: object.spec.jobTemplate.spec,
        },
      }),
    );
  const own = (group, plural) => kind.group === group && kind.plural === plural;
  return (
    <div class="actions">
      {rights.scale && <button onClick={() => (setReplicas(object.spec?.replicas ?? 0), setAsking("scale"))}>{t("Scale")}</button>}
      {rights.patch && kind.group === "apps" && RESTARTABLE.includes(kind.plural) && <button onClick={restart}>{t("Restart")}</button>}
      {rights.patch && own("", "nodes") && <button onClick={() => patch({ spec: { unschedulable: object.spec?.unschedulable ? null : true } })}>{t(object.spec?.unschedulable ? "Uncordon" : "Cordon")}</button>}
      {rights.patch && rights.evict && own("", "nodes") && <button onClick={() => setAsking("drain")}>{t("Drain")}</button>}
      {rights.patch && (own("batch", "cronjobs") || (own("batch", "jobs") && !isOver(object))) && <button onClick={() => patch({ spec: { suspend: !object.spec.suspend } })}>{t(object.spec.suspend ? "Resume" : "Suspend")}</button>}
      {rights.trigger && own("batch", "cronjobs") && <button onClick={trigger}>{t("Trigger")}</button>}
      {rights.delete && <button class="danger" onClick={() => setAsking("delete")}>{t("Delete")}</button>}
      {problem && !asking && <p class="problem" role="alert">{problem}</p>}
      {asking === "drain" && <Drain kind={kind} node={object} onClose={() => setAsking("")} />}
      {asking in WORDS && (
        <Dialog title={`${t(WORDS[asking])}: ${name}`} onClose={() => (setAsking(""), setProblem(""))}>
          <form onSubmit={(e) => (e.preventDefault(), { scale, delete: remove }[asking]())}>
            {asking === "scale" && <label>{t("Replicas")}<input type="number" min={0} value={replicas} onInput={(e) => setReplicas(Number(e.currentTarget.value))} /></label>}
            {asking === "delete" && <p>{t("Delete this object?")} {kind.kind} {namespace ? `${namespace}/` : ""}{name}</p>}
            {problem && <p class="problem" role="alert">{problem}</p>}
            <div class="actions"><button type="button" onClick={() => setAsking("")}>{t("Cancel")}</button><button class={asking === "scale" ? "primary" : "danger"}>{t(WORDS[asking])}</button></div>
          </form>
        </Dialog>
      )}
    </div>
  );
}
