import { useEffect, useState } from "preact/hooks";
import { call, pathOf } from "../api.js";
import { diff } from "../diff.js";
import { isCurrent, revisionsOf } from "../revisions.js";
import { age, t } from "../words.js";
import { writeSorted } from "../yaml.js";
import { Difference } from "./difference.jsx";

// Earlier templates of a workload, each with what going back to it would change.
export function Revisions({ kind, object, mayChange }) {
  const [revisions, setRevisions] = useState([]);
  const [chosen, setChosen] = useState(null);
  const [problem, setProblem] = useState("");
  const { namespace, name, uid, generation } = object.metadata;
  useEffect(() => {
    revisionsOf(kind, object).then(setRevisions, (error) => setProblem(error.message));
  }, [uid, generation, object.metadata.resourceVersion]);
  const back = async () => {
    try {
      await call("PATCH", pathOf(kind, namespace, name), chosen.back);
      setChosen(null);
      setProblem("");
    } catch (error) {
      setProblem(error.message);
    }
  };
  return (
    <>
      {problem && <p class="problem" role="alert">{problem}</p>}
      <div class="scroll" tabIndex={0}><table class="plain">
        <thead><tr><th>{t("Revision")}</th><th>{t("Name")}</th><th>{t("Image")}</th><th>{t("Replicas")}</th><th>{t("Age")}</th></tr></thead>
        <tbody>
          {revisions.map((one) => (
            <tr key={one.uid}>
              <td>{isCurrent(kind, object, one, revisions[0]) ? `${one.revision} (${t("current")})` : <button aria-pressed={chosen?.uid === one.uid} onClick={() => setChosen(one)}>{one.revision}</button>}</td>
              <td>{one.name}</td><td>{one.template.spec.containers.map((c) => c.image).join(", ")}</td><td>{one.replicas}</td><td>{age(one.created)}</td>
            </tr>
          ))}
        </tbody>
      </table></div>
      {chosen && (
        <>
          <h2>{t("Roll back to")} {chosen.revision}</h2>
          <Difference lines={diff(writeSorted(object.spec.template), writeSorted(chosen.template))} />
          {mayChange && <button class="primary" onClick={back}>{t("Roll back")}</button>}
        </>
      )}
    </>
  );
}
