import { useEffect, useState } from "preact/hooks";
import { discover, get, kindOf, may, pathOf } from "../api.js";
import { linkTo } from "../sections.js";
import { t } from "../words.js";

const METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const DEPTH_MAX = 6;
const CHILDREN_MAX = 100;
// What owned objects are, other than custom resources, of which all kinds are looked through.
const OWNED = new Set(["pods", "replicasets", "jobs", "controllerrevisions", "endpointslices", "persistentvolumeclaims", "resourceclaims"]);
const isCustom = (kind) => kind.group.includes(".") && !kind.group.endsWith(".k8s.io");

async function parents(object) {
  const found = [];
  let references = object.metadata.ownerReferences || [];
  while (references.length && found.length < DEPTH_MAX) {
    const reference = references.find((r) => r.controller) || references[0];
    const kind = await kindOf(reference.apiVersion, reference.kind).catch(() => null);
    const namespace = kind?.namespaced ? object.metadata.namespace : "";
    found.unshift({ kind, name: reference.name, about: reference.kind, namespace });
    const mayGet = kind && (await may("get", kind, { namespace, name: reference.name }));
    const owner = mayGet ? await get(pathOf(kind, namespace, reference.name)).catch(() => null) : null;
    references = owner?.metadata.ownerReferences || [];
  }
  return found;
}

// Everything in the namespace that someone owns, by owner.
async function owned(namespace) {
  const kinds = (await discover()).filter((k) => k.namespaced && (OWNED.has(k.plural) || isCustom(k)));
  const lists = await Promise.all(
    kinds.map(async (kind) => {
      if (!(await may("list", kind, { namespace }).catch(() => false))) return [];
      const { items } = await get(pathOf(kind, namespace), {}, { accept: METADATA }).catch(() => ({ items: [] }));
      return items.map((item) => ({ kind, about: kind.kind, namespace, name: item.metadata.name, uid: item.metadata.uid, owners: item.metadata.ownerReferences || [] }));
    }),
  );
  const found = new Map();
  for (const item of lists.flat()) for (const owner of item.owners) found.set(owner.uid, [...(found.get(owner.uid) || []), item]);
  return found;
}

// Who owns this object, and what it owns, as a tree.
export function Owners({ kind, object }) {
  const [tree, setTree] = useState(null);
  const { uid, namespace, resourceVersion } = object.metadata;
  useEffect(() => {
    let ended = false;
    Promise.all([parents(object), namespace ? owned(namespace) : new Map()]).then(([above, below]) => !ended && setTree({ above, below }), () => {});
    return () => (ended = true);
  }, [uid, resourceVersion]);
  if (!tree || (!tree.above.length && !tree.below.has(uid))) return null;
  const branch = (item, depth) => {
    const children = (depth < DEPTH_MAX && item.uid && tree.below.get(item.uid)) || [];
    return (
      <li key={`${item.about}/${item.name}`}>
        {item.uid === uid ? <strong aria-current="true">{item.about}/{item.name}</strong> : <Link item={item} />}
        {children.length > 0 && <ul>{children.slice(0, CHILDREN_MAX).map((child) => branch(child, depth + 1))}{children.length > CHILDREN_MAX && <li>… {children.length - CHILDREN_MAX}</li>}</ul>}
      </li>
    );
  };
  const own = branch({ kind, about: kind.kind, name: object.metadata.name, namespace, uid }, 0);
  const whole = tree.above.reduceRight((below, item) => <li key={`${item.about}/${item.name}`}><Link item={item} /><ul>{below}</ul></li>, own);
  return (
    <>
      <h2>{t("Owner tree")}</h2>
      <ul class="tree">{whole}</ul>
    </>
  );
}

function Link({ item }) {
  const words = `${item.about}/${item.name}`;
  return item.kind ? <a href={linkTo(item.kind, item.namespace, item.name)}>{words}</a> : <span>{words}</span>;
}
