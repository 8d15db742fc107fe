// The events about one object, live.

import { useEffect, useState } from "preact/hooks";
import { follow } from "./api.js";

export const timeOf = (e) => e.lastTimestamp || e.series?.lastObservedTime || e.eventTime || e.metadata.creationTimestamp;

// Null while they are asked for.
export function useEvents(object) {
  const [events, setEvents] = useState(null);
  const { uid, namespace, name } = object.metadata;
  useEffect(() => {
    const ended = new AbortController();
    const all = new Map();
    const show = () => setEvents([...all.values()].sort((a, b) => (timeOf(a) < timeOf(b) ? 1 : -1)));
    // A node's events name it as their uid: kubelets do not know the object's.
    const selector = object.kind === "Node" ? `involvedObject.kind=Node,involvedObject.name=${name}` : `involvedObject.uid=${uid}`;
    follow(namespace ? `/api/v1/namespaces/${namespace}/events` : "/api/v1/events", {
      query: { fieldSelector: selector },
      asTable: false,
      signal: ended.signal,
      onProblem: (problem) => problem && setEvents((old) => old || []),
      onList: (list) => {
        all.clear();
        list.items.forEach((e) => all.set(e.metadata.uid, e));
        show();
      },
      onEvents: (found) => {
        for (const { type, object: e } of found) type === "DELETED" ? all.delete(e.metadata.uid) : all.set(e.metadata.uid, e);
        show();
      },
    });
    return () => ended.abort();
  }, [uid]);
  return events;
}
