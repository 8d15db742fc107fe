// The server's OpenAPI v3 documents: the schema of a kind, and what it says about the fields along a path.

import { get } from "../api.js";

const documents = new Map();

function documentOf(kind) {
  const path = kind.group ? `/openapi/v3/apis/${kind.group}/${kind.version}` : `/openapi/v3/api/${kind.version}`;
  if (!documents.has(path)) {
    const asked = get(path);
    asked.catch(() => documents.delete(path));
    documents.set(path, asked);
  }
  return documents.get(path);
}

export class Schema {
  constructor(document, node) {
    this.document = document;
    this.node = this.#plain(node);
    this.preserves = !!this.node["x-kubernetes-preserve-unknown-fields"];
  }

  // References and wrappers of one ("allOf") are followed; what stands beside them (description, default) wins.
  #plain(node = {}) {
    for (let depth = 0; depth < 8 && (node.$ref || node.allOf?.length === 1); depth += 1) {
      const { $ref, allOf, ...beside } = node;
      const target = $ref ? this.document.components.schemas[$ref.split("/").pop()] : allOf[0];
      node = { ...target, ...beside };
    }
    return node;
  }

  get type() {
    const { type, format, items, additionalProperties, properties } = this.node;
    if (this.node["x-kubernetes-int-or-string"] || format === "int-or-string") return "integer or string";
    if (type === "array") return `${new Schema(this.document, items).type}[]`;
    if (additionalProperties?.type || additionalProperties?.$ref) return `map of ${new Schema(this.document, additionalProperties).type}`;
    return type || (properties ? "object" : this.node.oneOf?.map((o) => o.type).join(" or ") || "any");
  }
  get description() {
    return this.node.description || "";
  }
  get choices() {
    return this.node.enum || [];
  }
  get required() {
    return this.node.required || [];
  }
  get fields() {
    return this.node.properties || {};
  }

  // The schema of one step down: a field's name, or a number for an item. Null where it has no such field, undefined
  // where anything may stand.
  step(key) {
    const { properties, additionalProperties, items } = this.node;
    if (typeof key === "number") return items ? new Schema(this.document, items) : undefined;
    if (properties?.[key]) return new Schema(this.document, properties[key]);
    if (additionalProperties && typeof additionalProperties === "object") return new Schema(this.document, additionalProperties);
    if (this.preserves || additionalProperties === true || !properties) return undefined;
    return null;
  }
}

// The schema of a whole object of this kind; null where the server has none.
export async function schemaOf(kind) {
  const document = await documentOf(kind);
  const found = Object.values(document.components?.schemas || {}).find((node) =>
    node["x-kubernetes-group-version-kind"]?.some((g) => g.group === kind.group && g.version === kind.version && g.kind === kind.kind),
  );
  return found ? new Schema(document, found) : null;
}
