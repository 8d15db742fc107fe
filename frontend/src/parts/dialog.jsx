import { useEffect, useRef } from "preact/hooks";

// A modal window; Escape and the browser's own focus trap come with <dialog>.
export function Dialog({ title, onClose, children }) {
  const box = useRef();
  useEffect(() => box.current.showModal(), []);
  return <dialog ref={box} onClose={onClose} aria-label={title}><h2>{title}</h2>{children}</dialog>;
}
