import { useEffect, useMemo, useState } from "preact/hooks";
import { call, get, pathOf } from "../api.js";
import { diff } from "../diff.js";
import { schemaOf } from "../schema/openapi.js";
import { problems } from "../schema/reading.js";
import { t } from "../words.js";
import { read, write as writeYaml, writeSorted } from "../yaml.js";
import { Difference } from "./difference.jsx";
import { SchemaText } from "./schematext.jsx";

const shown = ({ apiVersion, kind, ...object }) => ({ apiVersion, kind, ...object, metadata: { ...object.metadata, managedFields: undefined } });
const write = (object, form) => {
  const plain = JSON.parse(JSON.stringify(shown(object)));
  return form === "json" ? JSON.stringify(plain, null, 2) + "\n" : writeYaml(plain);
};

// What people and controllers want, without what is: a new status meanwhile is no conflict with an edit.
const intended = ({ status, metadata: { resourceVersion, managedFields, ...metadata }, ...object }) => writeSorted({ ...object, apiVersion: "", kind: "", metadata });

// YAML or JSON of the object. To save: the server's dry run answers what it would store, the difference is shown, and
// what was shown is what is then asked for.
export function Editor({ kind, object, editable }) {
  const [form, setForm] = useState("yaml");
  const [draft, setDraft] = useState(null); // {text, base}
  const [change, setChange] = useState(null); // {body, lines}
  const [told, setTold] = useState({ problem: "", done: "", warning: "" });
  const [schema, setSchema] = useState(null);
  const editing = !!draft;
  useEffect(() => {
    if (editing) schemaOf(kind).then(setSchema, () => {});
  }, [kind, editing]);
  const wrong = useMemo(() => (draft ? problems(draft.text, schema) : []), [draft?.text, schema]);
  const path = pathOf(kind, object.metadata.namespace, object.metadata.name);
  const put = async (body, query) => {
    const send = (what) => call("PUT", path, { body: what, query: { fieldValidation: "Strict", fieldManager: "peavine-dashboard", ...query } });
    const answer = await send(body).catch(async (error) => {
      if (error.status !== 409) throw error;
      const now = await get(path);
      if (!kind.subresources.includes("status") || intended(now) !== intended(draft.base)) throw error;
      return send({ ...body, metadata: { ...body.metadata, resourceVersion: now.metadata.resourceVersion } });
    });
    return { object: await answer.json(), warning: answer.headers.get("warning") || "" };
  };
  const attempt = async (work) => {
    setTold({});
    try {
      await work();
    } catch (error) {
      setTold({ problem: error.message });
    }
  };
  const check = () =>
    attempt(async () => {
      const body = read(draft.text); // JSON is YAML
      const { object: result, warning } = await put(body, { dryRun: "All" });
      setChange({ body, lines: diff(write(draft.base, form), write(result, form)) });
      setTold({ warning });
    });
  const save = () =>
    attempt(async () => {
      await put(change.body);
      setDraft(null);
      setChange(null);
      setTold({ done: t("Saved") });
    });
  const stop = () => {
    setDraft(null);
    setChange(null);
    setTold({});
  };
  useEffect(() => setChange(null), [draft?.text]);
  return (
    <div class="editor">
      <div class="actions">
        {!draft && <button aria-pressed={form === "yaml"} onClick={() => setForm("yaml")}>YAML</button>}
        {!draft && <button aria-pressed={form === "json"} onClick={() => setForm("json")}>JSON</button>}
        {!draft && editable && <button class="primary" onClick={() => (setTold({}), setDraft({ text: write(object, form), base: object }))}>{t("Edit")}</button>}
        {draft && <button class={change ? "" : "primary"} onClick={check}>{t("Check")}</button>}
        {draft && change && change.lines.length > 0 && <button class="primary" onClick={save}>{t("Save")}</button>}
        {draft && <button onClick={stop}>{t("Cancel")}</button>}
        {draft && <span class="hint">{t("Server-side dry run, then a diff, then save")}</span>}
      </div>
      {told.problem && <p class="problem" role="alert">{told.problem}</p>}
      {told.warning && <p class="problem" role="status">{told.warning}</p>}
      {told.done && <p class="done" role="status">{told.done}</p>}
      {change && (
        <>
          <h2>{change.lines.length ? t("Changes the server would make") : t("No changes")}</h2>
          <Difference lines={change.lines} />
        </>
      )}
      {draft
        ? <SchemaText label={form.toUpperCase()} text={draft.text} schema={schema} wrong={wrong} onText={(text) => setDraft({ ...draft, text })} />
        : <pre class="code" tabIndex={0} role="region" aria-label={form.toUpperCase()}>{write(object, form)}</pre>}
    </div>
  );
}
