export function Difference({ lines }) {
  const kinds = { "+": "added", "-": "removed" };
  return <pre class="diff">{lines.map((line, i) => <span key={i} class={kinds[line.sign]}>{line.sign} {line.text}{"\n"}</span>)}</pre>;
}
