import { t } from "../words.js";

// [[id, words]]: one is chosen; arrows move between them, as the pattern for tabs has it.
export function Tabs({ tabs, at, onChoose }) {
  const keys = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = (tabs.findIndex(([id]) => id === at) + step + tabs.length) % tabs.length;
    onChoose(tabs[next][0]);
    event.currentTarget.children[next].focus();
  };
  return (
    <div class="tabs" role="tablist" onKeyDown={keys}>
      {tabs.map(([id, words]) => (
        <button key={id} id={`tab-${id}`} type="button" role="tab" aria-selected={at === id} aria-controls={at === id ? "panel" : undefined} tabIndex={at === id ? 0 : -1} onClick={() => onChoose(id)}>{t(words)}</button>
      ))}
    </div>
  );
}
