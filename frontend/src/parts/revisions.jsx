import { useEffect, useState } from "preact/hooks";
import { dump } from "js-yaml";
import { call, get, pathOf } from "../api.js";
import { diff } from "../diff.js";
import { age, t } from "../words.js";
import { Difference } from "./difference.jsx";

const REVISION = "deployment.kubernetes.io/revision";
const HASH = "pod-template-hash";

// The template as its Deployment had it: without the label that tells its ReplicaSets apart.
function templateOf(set) {
  const { [HASH]: hash, ...labels } = set.spec.template.metadata?.labels || {};
  return { ...set.spec.template, metadata: { ...set.spec.template.metadata, labels } };
}

// A Deployment's earlier templates, each with what going back to it would change.
export function Revisions({ kind, deployment, mayChange }) {
  const [sets, setSets] = useState([]);
  const [chosen, setChosen] = useState(null);
  const [problem, setProblem] = useState("");
  const { namespace, name, uid, annotations } = deployment.metadata;
  const now = annotations?.[REVISION];
  useEffect(() => {
    get(`/apis/apps/v1/namespaces/${namespace}/replicasets`).then(
      ({ items }) => {
        const own = items.filter((set) => set.metadata.ownerReferences?.some((o) => o.uid === uid));
        setSets(own.sort((a, b) => Number(b.metadata.annotations?.[REVISION]) - Number(a.metadata.annotations?.[REVISION])));
      },
      (error) => setProblem(error.message),
    );
  }, [uid, now, deployment.metadata.generation]);
  const text = (template) => dump(template, { lineWidth: -1, noRefs: true, sortKeys: true });
  const back = async () => {
    try {
      const body = [
        { op: "test", path: "/metadata/uid", value: uid },
        { op: "replace", path: "/spec/template", value: templateOf(chosen) },
      ];
      await call("PATCH", pathOf(kind, namespace, name), { body, type: "application/json-patch+json" });
      setChosen(null);
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  return (
    <>
      {problem && <p class="problem" role="alert">{problem}</p>}
      <div class="scroll"><table class="plain">
        <thead><tr><th>{t("Revision")}</th><th>{t("Name")}</th><th>{t("Image")}</th><th>{t("Replicas")}</th><th>{t("Age")}</th></tr></thead>
        <tbody>
          {sets.map((set) => {
            const revision = set.metadata.annotations?.[REVISION];
            return (
              <tr key={set.metadata.uid}>
                <td>{revision === now ? `${revision} (${t("current")})` : <button aria-pressed={chosen === set} onClick={() => setChosen(set)}>{revision}</button>}</td>
                <td>{set.metadata.name}</td><td>{set.spec.template.spec.containers.map((c) => c.image).join(", ")}</td><td>{set.status?.replicas || 0}</td><td>{age(set.metadata.creationTimestamp)}</td>
              </tr>
            );
          })}
        </tbody>
      </table></div>
      {chosen && (
        <>
          <h2>{t("Roll back to")} {chosen.metadata.annotations?.[REVISION]}</h2>
          <Difference lines={diff(text(deployment.spec.template), text(templateOf(chosen)))} />
          {mayChange && <button class="primary" onClick={back}>{t("Roll back")}</button>}
        </>
      )}
    </>
  );
}
