import { useMemo, useRef, useState } from "preact/hooks";
import { along, pathAt } from "../schema/reading.js";
import { t } from "../words.js";

const WORDS = { syntax: "Not readable:", unknown: "Unknown field:", missing: "Missing field:", type: "Must be:" };

// A text area that marks what the schema does not know while one types, and tells what may stand at the cursor.
// Ctrl+Space goes to the suggestions, Escape back.
export function SchemaText({ label, text, schema, wrong, onText }) {
  const area = useRef();
  const marks = useRef();
  const list = useRef();
  const [cursor, setCursor] = useState(0);
  const here = useMemo(() => (schema ? lookAt(schema, text, cursor) : null), [schema, text, cursor]);

  const follow = () => setCursor(area.current.selectionStart);
  const scroll = () => ([marks.current.scrollTop, marks.current.scrollLeft] = [area.current.scrollTop, area.current.scrollLeft]);
  const write = (start, end, words) => {
    area.current.focus();
    area.current.setSelectionRange(start, end);
    // Keeps the browser's own undo; where a browser no longer knows it, the text is replaced.
    if (!document.execCommand("insertText", false, words)) area.current.setRangeText(words, start, end, "end");
    onText(area.current.value);
    follow();
  };
  const choose = (word) => {
    const { start, end } = here.replaced;
    const name = text.trimStart().startsWith("{") ? `"${word}"` : word;
    write(start, end, here.isValue ? word : here.complete ? word : `${name}: `);
  };
  const goTo = (problem) => {
    area.current.focus();
    area.current.setSelectionRange(problem.start, problem.end);
    area.current.scrollTop = (problem.line - 4) * parseFloat(getComputedStyle(area.current).lineHeight);
    follow();
  };
  const keys = (event) => {
    if (event.key === " " && event.ctrlKey) {
      event.preventDefault();
      list.current?.querySelector("button")?.focus();
    }
  };
  const move = (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (step) {
      event.preventDefault();
      event.target.parentElement[step]?.querySelector("button").focus();
    }
    if (event.key === "Escape") area.current.focus();
  };
  return (
    <div class="schema-text">
      <div class="typing">
        <pre class="code marks" ref={marks} aria-hidden="true">{marked(text, wrong)}{"\n "}</pre>
        <textarea class="code" ref={area} wrap="off" spellcheck={false} aria-label={label} aria-describedby="field-help" value={text}
          onInput={(e) => (onText(e.currentTarget.value), follow())} onClick={follow} onKeyUp={follow} onSelect={follow} onKeyDown={keys} onScroll={scroll} />
      </div>
      <aside class="help" aria-label={t("Help from the schema")}>
        {wrong.length > 0 && (
          <div role="status"><ul class="wrong">
            {wrong.map((p) => <li key={`${p.start}${p.what}`}><button onClick={() => goTo(p)}>{t("Line")} {p.line}</button> {t(WORDS[p.code])} <code>{p.what}</code></li>)}
          </ul></div>
        )}
        {!schema && <p class="nothing">{t("The server has no schema of this kind")}</p>}
        {here && (
          <div id="field-help">
            <h3>{here.trail}</h3>
            {here.field && <><p class="hint"><code>{here.field.type}</code></p><p>{here.field.description}</p></>}
            {here.suggestions.length > 0 && (
              <>
                <h3>{t(here.isValue ? "Values" : "Fields")} <kbd>Ctrl</kbd> <kbd>Space</kbd></h3>
                <ul class="suggestions" ref={list} onKeyDown={move}>
                  {here.suggestions.map(({ word, type, needed }) => <li key={word}><button onClick={() => choose(word)}>{word}{needed && " *"}</button> <span class="hint">{type}</span></li>)}
                </ul>
              </>
            )}
          </div>
        )}
      </aside>
    </div>
  );
}

function marked(text, wrong) {
  const parts = [];
  let at = 0;
  for (const { start, end } of [...wrong].sort((a, b) => a.start - b.start)) {
    if (start < at) continue;
    parts.push(text.slice(at, start), <mark key={start}>{text.slice(start, Math.min(end, endOfLine(text, start)))}</mark>);
    at = Math.min(end, endOfLine(text, start));
  }
  return [...parts, text.slice(at)];
}

function endOfLine(text, from) {
  const end = text.indexOf("\n", from);
  return end < 0 ? text.length : Math.max(end, from);
}

// What the schema says where the cursor stands: the field of this line, and what could be written here.
function lookAt(schema, text, cursor) {
  const { path, word, complete } = pathAt(text, cursor);
  const parent = along(schema, path);
  if (!parent) return null;
  const lineStart = text.lastIndexOf("\n", cursor - 1) + 1;
  const lineEnd = endOfLine(text, cursor);
  const line = text.slice(lineStart, lineEnd);
  const field = word ? parent.step(word) : null;
  const trail = [...path, ...(field ? [word] : [])].map((p) => (typeof p === "number" ? `[${p}]` : p)).join(".").replaceAll(".[", "[") || schema.node["x-kubernetes-group-version-kind"]?.[0].kind;
  const colon = line.indexOf(":");
  if (complete && field && lineStart + colon < cursor) {
    const values = field.choices.length ? field.choices : field.node.type === "boolean" ? ["true", "false"] : [];
    return { schema: parent, field, trail, isValue: true, replaced: { start: lineStart + colon + 1, end: lineEnd }, suggestions: values.map((v) => ({ word: ` ${v}`, type: "" })) };
  }
  // A field that is known and complete needs no suggestion; what is being typed does, and what the schema does not know.
  const before = text.slice(lineStart, cursor);
  const typed = /[^\s"]*$/.exec(before)[0].toLowerCase();
  const suggestions = (complete && field ? [] : Object.keys(parent.fields))
    .filter((name) => name.toLowerCase().startsWith(typed))
    .map((name) => ({ word: name, type: parent.step(name).type, needed: parent.required.includes(name) }));
  const rest = word ? /^[^\s":]*/.exec(text.slice(cursor, lineEnd))[0].length : 0;
  return { schema: parent, field: field || (word ? null : parent), trail, complete, isValue: false, replaced: { start: cursor - typed.length, end: cursor + rest }, suggestions };
}
