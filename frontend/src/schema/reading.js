// A YAML (or JSON) text against a schema: what is wrong where, and where in the object the cursor stands.

import { LineCounter, isMap, isScalar, isSeq, parseDocument } from "yaml";

const PROBLEMS_MAX = 50;
const TYPES = {
  string: (value) => typeof value === "string",
  integer: (value) => Number.isInteger(value),
  number: (value) => typeof value === "number",
  boolean: (value) => typeof value === "boolean",
};

export function parse(text) {
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false, version: "1.1", merge: true });
  return { document, lineOf: (offset) => counter.linePos(offset).line };
}

// [{start, end, line, code, what}]: characters of the text, and why. `code`: "syntax", "unknown", "missing", "type".
export function problems(text, schema) {
  const { document, lineOf } = parse(text);
  const found = [];
  const tell = (range, code, what) => found.length < PROBLEMS_MAX && found.push({ start: range[0], end: Math.max(range[1], range[0] + 1), line: lineOf(range[0]), code, what });
  for (const error of document.errors) tell(error.pos, "syntax", error.message);
  if (!found.length && schema && document.contents) check(document.contents, schema, document.contents.range, tell);
  return found;
}

function check(node, schema, at, tell) {
  if (!schema) return;
  if (isMap(node)) {
    const given = new Set(node.items.map((pair) => String(pair.key?.value ?? pair.key)));
    for (const name of schema.required) if (!given.has(name)) tell(at, "missing", name);
    for (const pair of node.items) {
      const name = String(pair.key?.value ?? pair.key);
      const below = schema.step(name);
      if (below === null) tell(pair.key.range, "unknown", name);
      else if (pair.value) check(pair.value, below, pair.key.range, tell);
    }
    if (["string", "integer", "number", "boolean"].includes(schema.node.type) || schema.node.type === "array") tell(at, "type", schema.type);
  } else if (isSeq(node)) {
    if (schema.node.type && schema.node.type !== "array") tell(at, "type", schema.type);
    else node.items.forEach((item, i) => item && check(item, schema.step(i), item.range || at, tell));
  } else if (isScalar(node) && node.value !== null) {
    const fits = TYPES[schema.node.type];
    const loose = schema.type === "integer or string" || !schema.node.type;
    if (schema.node.type === "object" || schema.node.type === "array" || (!loose && fits && !fits(node.value))) tell(node.range, "type", schema.type);
    else if (schema.choices.length && !schema.choices.includes(node.value)) tell(node.range, "type", schema.choices.join(", "));
  }
}

// The names and numbers that lead to the line of `offset`, and the word that is being typed there. Reads lines and
// their indentation, not the document: it must answer while the text is no YAML yet.
export function pathAt(text, offset) {
  const lines = text.slice(0, offset).split("\n");
  const column = lines.pop().length;
  const end = text.indexOf("\n", offset);
  const line = text.slice(offset - column, end < 0 ? text.length : end);
  const steps = []; // {indent, key}: key is a name, or a number for an item
  let scalar = Infinity; // lines deeper than this are the text of a block scalar
  for (const one of lines) {
    const indent = one.search(/\S/);
    if (indent < 0 || one[indent] === "#" || indent > scalar) continue;
    scalar = /[:-] [|>][-+0-9]*\s*$/.test(one) ? indent : Infinity;
    enter(steps, one);
  }
  const word = line.trim() ? enter(steps, line) : leave(steps, column);
  if (word) steps.pop();
  return { path: steps.map((step) => step.key), word, complete: /^[\s-]*("[^"]*"|[^\s"#:]+):/.test(line) };
}

function leave(steps, indent) {
  while (steps.length && steps.at(-1).indent >= indent) steps.pop();
  return "";
}

// Follows one line: its dashes, then its field; returns the field's name.
function enter(steps, line) {
  const [, lead, name] = /^([ -]*)"?([^\s"':#{}[\],]*)/.exec(line);
  const at = lead.length;
  for (const [column, sign] of [...line].entries()) {
    const isItem = column < at ? sign === "-" : column === at && sign === "{";
    if (isItem) {
      while (steps.length && steps.at(-1).indent > column) steps.pop();
      const last = steps.at(-1);
      if (last?.indent === column && typeof last.key === "number") last.key += 1;
      else if (last) steps.push({ indent: column, key: 0 });
    }
    if (column >= at) break;
  }
  if (!name) return "";
  leave(steps, at);
  steps.push({ indent: at, key: name });
  return name;
}

// The schema along a path; null where the path leaves it.
export function along(schema, path) {
  let here = schema;
  for (const key of path) here = here?.step(key) ?? null;
  return here;
}
