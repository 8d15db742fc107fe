import { useEffect, useState } from "preact/hooks";

const REFRESH_MS = 10_000;

// What `look(namespace)` found last, asked again while the page is seen; null at first. A look that fails leaves what was seen.
export function useRefreshed(look, namespace) {
  const [seen, setSeen] = useState(null);
  useEffect(() => {
    let ended = false;
    const again = () => !document.hidden && look(namespace).then((found) => !ended && setSeen(found), () => {});
    again();
    const timer = setInterval(again, REFRESH_MS);
    return () => {
      ended = true;
      clearInterval(timer);
    };
  }, [namespace]);
  return seen;
}
