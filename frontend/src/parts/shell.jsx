import { useEffect, useRef, useState } from "preact/hooks";
import { pathOf, url } from "../api.js";
import { t } from "../words.js";
import { containersOf } from "./logs.jsx";

const STDIN = 0, STDOUT = 1, STDERR = 2, OUTCOME = 3, SIZE = 4;

// xterm writes its rules into <style> elements, which our content security policy does not let in. Style sheets made
// by script are no inline styles: an element made here keeps its text in one of those.
function withStyleSheets(work) {
  const original = document.createElement;
  document.createElement = function (name, ...more) {
    if (String(name).toLowerCase() !== "style") return original.call(document, name, ...more);
    const element = original.call(document, "template");
    const sheet = new CSSStyleSheet();
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    Object.defineProperty(element, "textContent", { set: (text) => sheet.replaceSync(text), get: () => "" });
    element.remove = () => {
      document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => s !== sheet);
      Element.prototype.remove.call(element);
    };
    return element;
  };
  try {
    return work();
  } finally {
    document.createElement = original;
  }
}

export function Shell({ kind, pod }) {
  const containers = containersOf(pod);
  const [container, setContainer] = useState(containers[0]);
  const [command, setCommand] = useState("/bin/sh");
  const [state, setState] = useState({ words: "", run: 0 });
  const box = useRef();

  useEffect(() => {
    if (!state.run) return;
    let ended = false;
    let close = () => {};
    // Loaded when first needed: most visits open no shell.
    Promise.all([import("@xterm/xterm"), import("@xterm/addon-fit"), import("@xterm/xterm/css/xterm.css")]).then(([{ Terminal }, { FitAddon }]) => {
      if (ended) return;
      const terminal = new Terminal({ cursorBlink: true, fontSize: 13 });
      const fit = new FitAddon();
      terminal.loadAddon(fit);
      withStyleSheets(() => terminal.open(box.current));
      fit.fit();
      terminal.focus();
      const query = new URLSearchParams([["container", container], ["stdin", "true"], ["stdout", "true"], ["tty", "true"], ...command.split(/\s+/).filter(Boolean).map((word) => ["command", word])]);
      const address = new URL(url(pathOf(kind, pod.metadata.namespace, pod.metadata.name, "exec")) + "?" + query, location.href);
      address.protocol = address.protocol.replace("http", "ws");
      const socket = new WebSocket(address, ["v4.channel.k8s.io"]);
      socket.binaryType = "arraybuffer";
      const send = (channel, text) => {
        if (socket.readyState !== WebSocket.OPEN) return;
        const data = new TextEncoder().encode(text);
        const message = new Uint8Array(data.length + 1);
        message[0] = channel;
        message.set(data, 1);
        socket.send(message);
      };
      const resize = () => send(SIZE, JSON.stringify({ Width: terminal.cols, Height: terminal.rows }));
      socket.onopen = () => (setState((old) => ({ ...old, words: t("connected") })), resize());
      socket.onmessage = ({ data }) => {
        const message = new Uint8Array(data);
        if (message[0] === STDOUT || message[0] === STDERR) terminal.write(message.subarray(1));
        if (message[0] === OUTCOME) {
          const outcome = JSON.parse(new TextDecoder().decode(message.subarray(1)) || "{}");
          if (outcome.message) terminal.write(`\r\n${outcome.message}\r\n`);
        }
      };
      socket.onclose = (event) => setState((old) => ({ ...old, words: `${t("ended")}${event.reason ? `: ${event.reason}` : event.code === 1006 ? `: ${t("the connection was refused or broke")}` : ""}` }));
      terminal.onData((text) => send(STDIN, text));
      terminal.onResize(resize);
      const observer = new ResizeObserver(() => fit.fit());
      observer.observe(box.current);
      close = () => {
        observer.disconnect();
        socket.close();
        terminal.dispose();
      };
    });
    return () => {
      ended = true;
      close();
    };
  }, [state.run]);
  return (
    <div class="shell">
      <form class="bar" onSubmit={(e) => { e.preventDefault(); setState({ words: "", run: state.run + 1 }); }}>
        <select aria-label={t("Container")} value={container} onChange={(e) => setContainer(e.currentTarget.value)}>{containers.map((c) => <option key={c}>{c}</option>)}</select>
        <input aria-label={t("Command")} value={command} onInput={(e) => setCommand(e.currentTarget.value)} />
        <button class="primary">{t("Connect")}</button>
        <span role="status">{state.words}</span>
      </form>
      <div class="terminal-box" ref={box} />
    </div>
  );
}
