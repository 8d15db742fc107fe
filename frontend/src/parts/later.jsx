import { useEffect, useState } from "preact/hooks";
import { t } from "../words.js";

// A component whose code is fetched when it is first shown.
export function later(load, name) {
  let found = null;
  return function Later(props) {
    const [, repaint] = useState(0);
    useEffect(() => {
      if (!found) load().then((module) => ((found = module[name]), repaint((n) => n + 1)));
    }, []);
    const Found = found;
    return Found ? <Found {...props} /> : <p>{t("Loading…")}</p>;
  };
}
