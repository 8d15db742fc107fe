// The lines that differ between two texts, with a little around them.

const CELLS_MAX = 4_000_000;

export function diff(before, after, context = 3) {
  const a = before.split("\n");
  const b = after.split("\n");
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let endA = a.length;
  let endB = b.length;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) (endA -= 1), (endB -= 1);
  const middle = changes(a.slice(start, endA), b.slice(start, endB));
  const all = [
    ...a.slice(0, start).map((text) => ({ sign: " ", text })),
    ...middle,
    ...a.slice(endA).map((text) => ({ sign: " ", text })),
  ];
  const shown = [];
  let skipped = false;
  all.forEach((line, i) => {
    const near = all.slice(Math.max(0, i - context), i + context + 1).some((other) => other.sign !== " ");
    if (near) {
      if (skipped && shown.length) shown.push({ sign: "@", text: "…" });
      shown.push(line);
      skipped = false;
    } else skipped = true;
  });
  return shown;
}

function changes(a, b) {
  const removed = a.map((text) => ({ sign: "-", text }));
  const added = b.map((text) => ({ sign: "+", text }));
  if (!a.length || !b.length || a.length * b.length > CELLS_MAX) return [...removed, ...added];
  const width = b.length + 1;
  const longest = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      longest[i * width + j] =
        a[i] === b[j]
          ? longest[(i + 1) * width + j + 1] + 1
          : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
  const found = [];
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    if (a[i] === b[j]) {
      found.push({ sign: " ", text: a[i] });
      (i += 1), (j += 1);
    } else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) found.push(removed[i++]);
    else found.push(added[j++]);
  }
  return [...found, ...removed.slice(i), ...added.slice(j)];
}
