"use strict";
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

// Sorts a table by the column whose header is pressed, the best first: numbers by data-value, text by itself.
for (const button of all("button.sort")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const column = head.cellIndex;
    const numeric = head.classList.contains("number");
    const first = head.dataset.better === "high" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    const turn = order === "ascending" ? 1 : -1;
    const key = (row) => {
      const cell = row.cells[column];
      if (!numeric) return cell.textContent;
      return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
    };
    const body = head.closest("table").tBodies[0];
    body.append(...[...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null);  // empty cells last
      return turn * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    }));
    for (const each of head.parentNode.cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
  });
}

// Hides a method everywhere when its button is pressed, and highlights it while the pointer or the focus is on it.
const rules = document.head.appendChild(document.createElement("style"));
const hidden = new Set();
const named = (label) => `[data-of="${CSS.escape(label)}"]`;
const dress = (lit) => {
  const gone = [...hidden].map((label) => `${named(label)} { display: none; }`);
  const seen = lit === undefined || hidden.has(lit) ? [] : [
    `svg [data-of]:not(${named(lit)}) { opacity: .15; }`, `tr${named(lit)} > * { background: var(--best); }`];
  rules.textContent = [...gone, ...seen].join("\n");
};
for (const bar of all(".methods")) bar.hidden = false;
for (const button of all(".methods button")) {
  const label = button.dataset.method;
  button.addEventListener("click", () => {
    if (!hidden.delete(label)) hidden.add(label);
    button.setAttribute("aria-pressed", String(!hidden.has(label)));
    dress(label);
  });
  for (const on of ["pointerenter", "focus"]) button.addEventListener(on, () => dress(label));
  for (const off of ["pointerleave", "blur"]) button.addEventListener(off, () => dress());
}

// Shows a chart's values on hover, touch and, with the arrow keys, by keyboard.
const tip = document.body.appendChild(document.createElement("div"));
tip.className = "tip";
tip.setAttribute("role", "status");
const show = (target) => {
  tip.textContent = target ? target.dataset.tip : "";
  if (!target) return;
  const box = target.getBoundingClientRect();
  const left = box.left + box.width / 2 - tip.offsetWidth / 2;
  const above = box.top - tip.offsetHeight - 4;
  tip.style.left = `${Math.max(4, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${above < 4 ? box.bottom + 4 : above}px`;
};
for (const title of all("svg title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}
const visible = (points) => points.filter((point) => point.getClientRects().length);
for (const chart of all("svg")) {
  const points = all("[data-tip]", chart);
  if (!points.length) continue;
  let at = -1;
  chart.tabIndex = 0;
  for (const on of ["pointerover", "pointerdown"])
    chart.addEventListener(on, (event) => show(event.target.closest("[data-tip]")));
  for (const off of ["pointerleave", "blur"]) chart.addEventListener(off, () => show());
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") show();
    if (!step) return;
    const seen = visible(points);
    at = (Math.max(at, step > 0 ? -1 : 0) + step + seen.length) % seen.length;
    event.preventDefault();
    show(seen[at]);
  });
}

// Print shows what is folded.
let opened = [];
addEventListener("beforeprint", () => {
  opened = all("details:not([open])");
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => {
  for (const one of opened) one.open = false;
});

// A page that is written while its run works loads itself anew.
const pause = document.querySelector("#pause");
if (pause) {
  const again = () => setTimeout(() => location.reload(), 1000 * pause.dataset.seconds);
  let waiting = again();
  pause.addEventListener("click", () => {
    const paused = pause.getAttribute("aria-pressed") !== "true";
    pause.setAttribute("aria-pressed", String(paused));
    clearTimeout(waiting);
    if (!paused) waiting = again();
  });
}
