// One step of the worksheet: blocks under each other, with the exact number of every cell.
// data: {blocks: [{kind: "strips" | "keys" | "dials" | "bars" | "groups", size, …}], z: the numbers of all blocks one after the other,
//        float32 with −1.2345e38 for gaps, chosen: place or null, label}. A block's parts begin `at` a place of its own numbers.
// Trigger "choose": {place} (the key whose row was chosen).
// blocks.js stands in front of this file and paints the blocks; here they are put together, looked at and chosen from.

function makeSteps(root) {
  const find = (name) => root.querySelector(name);
  const mark = document.createElement("span");
  mark.className = "mark";
  return { list: find(".blocks"), status: find(".status"), legend: find(".legend"), signed: find(".signed"),
           gaps: find(".gaps"), scale: find(".scale"), tip: find(".tip"), mark,
           blocks: [], lines: [], cursor: null, hover: null, repaints: 0, choose: () => {} };
}

// ---- the whole ----

const PAINT = { strips: paintStrips, keys: paintKeys, dials: paintDials, bars: paintBars,
                groups: paintGroups };

/** The i-th block's node, kept where its kind is still the same. */
function blockAt(state, i, kind) {
  const before = state.blocks[i];
  if (before?.kind === kind) return before;
  const block = makeBlock(state, kind);
  if (before) before.node.replaceWith(block.node);
  return (state.blocks[i] = block);
}

/** One line of each block can be reached by Tab, the others by the arrow keys; the chosen key's row is marked. */
function paintTabStops(state) {
  for (const { lines } of state.blocks) {
    const chosen = lines.find((line) => line.place === state.data.chosen);
    const stop = lines.find((line) => line.node.tabIndex === 0) ?? chosen ?? lines[0];
    for (const line of lines) {
      set(line.node, "tabindex", line === stop ? 0 : -1);
      if (line.place !== undefined) set(line.node, "aria-selected", line.place === state.data.chosen);
    }
  }
}

function paintFoot(state) {
  const { data, theme } = state;
  const shaded = (column) => (column.kind === "strip" || column.signed) && !column.covered;
  const colored = data.blocks.some((block) => block.strips || block.columns?.some(shaded));
  const gaps = data.z.some(missing);
  state.scale.style.background = `linear-gradient(to right, ${theme.lessMore.join(", ")})`;
  [state.signed.hidden, state.gaps.hidden, state.legend.hidden] = [!colored, !gaps, !colored && !gaps];
}

function paintSteps(state) {
  const { root, data } = state;
  if (!state.width) return;
  const began = performance.now();
  const theme = (state.theme = readTheme(root));
  const plan = (state.plan = planSteps(state));
  const look = { muted: css(theme.muted), line: css(theme.line), faint: css(mix(theme.text, theme.background, 0.06)),
                 chosen: css(mix(theme.accent, theme.background, 0.13)), gap: `${plan.gap}px`, pad: `${PAD}px` };
  for (const [name, value] of Object.entries(look)) root.style.setProperty(`--${name}`, value);
  set(root, "aria-label", data.label || "One step");
  while (state.blocks.length > data.blocks.length) state.blocks.pop().node.remove();
  state.lines = [];
  let from = 0;
  data.blocks.forEach((block, i) => {
    const own = blockAt(state, i, block.kind);
    const z = data.z.subarray(from, (from += block.size));
    if (!unchanged(own, "painted", [block, z, theme, plan, state.fonts])) {
      own.lines = PAINT[block.kind](own, block, z, state);
      state.repaints += 1;
      say(own.title, block.title ?? "");
      own.title.hidden = !block.title;
    }
    for (const line of own.lines) {
      line.block = own;
      set(line.node, "data-line", state.lines.push(line) - 1);
    }
  });
  paintTabStops(state);
  paintFoot(state);
  paintMarks(state);
  painted(state, { blocks: state.repaints, chosen: data.chosen ?? "", paintMs: (performance.now() - began).toFixed(1) });
}

// ---- looking and choosing: a look is {line, cell}, cell null for the line as a whole ----

function hostOf(line, cell) {
  return line.hosts.find((host) => cell >= host.first && cell < host.first + host.n);
}

function restingWords({ data, lines }) {
  const chosen = lines.find((line) => line.place !== undefined && line.place === data.chosen);
  const choosable = lines.some((line) => line.place !== undefined);
  const point = `Point at a cell for its exact number${choosable ? "; click a row to choose its key" : ""}.`;
  return chosen ? `${chosen.summary.split(", ")[0]} is chosen. ${point}` : point;
}

function paintMarks(state) {
  const there = ({ line, cell }) => cell === null || cell < (state.lines[line]?.cells ?? 0); // a rerun may have other blocks
  for (const name of ["hover", "cursor"]) if (state[name] && !there(state[name])) state[name] = null;
  const look = state.hover ?? state.cursor;
  const line = state.lines[look?.line];
  const words = line && (look.cell === null ? line.summary : line.words(look.cell));
  say(state.status, words ?? restingWords(state));
  say(state.tip, state.hover ? words : ""); // what is covered now must not be left in it
  if (!state.hover) state.tip.hidden = true;
  const host = line && look.cell !== null && hostOf(line, look.cell);
  if (!host) return state.mark.remove();
  const [left, top, width, height] = host.box(look.cell - host.first);
  state.mark.style.cssText = `left: ${left}px; top: ${top}px; width: ${width}px; height: ${height}px`;
  if (state.mark.parentNode !== host.node) host.node.append(state.mark);
}

/** The number of the line in which something happens, or null. */
function lineOf(event) {
  const node = event.target.closest?.("[data-line]");
  return node ? Number(node.dataset.line) : null;
}

/** What is under the pointer: a cell, or a line by its label; null between them. */
function lookAt(state, event) {
  const number = lineOf(event);
  if (number === null) return null;
  const shown = event.target.closest(".cells");
  const host = shown && state.lines[number].hosts.find((one) => one.node === shown);
  if (!host) return event.target.closest(".label") ? { line: number, cell: null } : null;
  const box = shown.getBoundingClientRect();
  const cell = host.at(event.clientX - box.left, event.clientY - box.top);
  return cell === null || cell >= host.n ? null : { line: number, cell: host.first + cell };
}

function onMove(state, event) {
  state.hover = lookAt(state, event);
  paintMarks(state);
  followPointer(state, event);
}

function chooseKey(state, line) {
  if (line?.place === undefined || line.place === state.data.chosen) return;
  state.data.chosen = line.place; // shown at once; the page's answer paints it again
  paintSteps(state);
  state.choose({ place: line.place });
}

/** Moves the focus and its block's tab stop to a line. */
function focusLine(state, look) {
  const line = state.lines[look.line];
  for (const other of line.block.lines) set(other.node, "tabindex", other === line ? 0 : -1);
  line.node.focus(); // which lets go of the look before
  state.cursor = look;
}

/** Where a key leads from one look: to another, to null (let go), or to undefined where the key means nothing here. */
function goalOf({ lines }, { line: number, cell }, key) {
  const line = lines[number];
  const to = (at) => ({ line: number, cell: clamp(at, 0, line.cells - 1) });
  if (key === "Escape") return null;
  if (key === "Home") return to(0);
  if (key === "End") return to(line.cells - 1);
  if (key === "ArrowRight") return to((cell ?? -1) + 1);
  if (key === "ArrowLeft") return to((cell ?? line.cells) - 1);
  if (key !== "ArrowUp" && key !== "ArrowDown") return undefined;
  const step = key === "ArrowUp" ? -1 : 1;
  const next = step > 0 ? (cell ?? -1) + 1 : (cell ?? 0) - 1;
  if (line.upright && next >= 0 && next < line.cells) return to(next);
  const other = lines[number + step];
  if (!other) return { line: number, cell };
  return { line: number + step, cell: cell === null || other.block !== line.block ? null : Math.min(cell, other.cells - 1) };
}

function onKey(state, event) {
  const number = lineOf(event);
  if (number === null || event.ctrlKey || event.metaKey || event.altKey) return;
  const line = state.lines[number];
  const chooses = (event.key === "Enter" || event.key === " ") && line.place !== undefined;
  const goal = goalOf(state, { line: number, cell: state.cursor?.line === number ? state.cursor.cell : null }, event.key);
  if (goal === undefined && !chooses) return;
  event.preventDefault();
  event.stopPropagation(); // the page has shortcuts of its own on these keys
  state.hover = null;
  if (chooses) chooseKey(state, line);
  else if (goal && goal.line !== number) focusLine(state, goal);
  else state.cursor = goal;
  paintMarks(state);
}

function onFocus(state, event) {
  const number = lineOf(event);
  if (number === null) return;
  if (state.cursor?.line !== number) state.cursor = { line: number, cell: null };
  if (event.target.matches(":focus-visible")) paintMarks(state);
}

/** A click keeps the cell until Escape, and chooses a key's row. */
function onClick(state, event) {
  const number = lineOf(event);
  if (number === null) return;
  focusLine(state, lookAt(state, event) ?? { line: number, cell: null });
  chooseKey(state, state.lines[number]);
  paintMarks(state);
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".steps", makeSteps, paintSteps);
  const { root } = state;
  state.runs += 1;
  state.data = { ...data, z: numbers(data.z) };
  state.choose = (value) => setTriggerValue("choose", value);
  root.onmousemove = (event) => onMove(state, event);
  root.onmouseleave = () => {
    state.hover = null;
    paintMarks(state);
  };
  root.onclick = (event) => onClick(state, event);
  root.onkeydown = (event) => onKey(state, event);
  if (!state.listening) {
    // these have no on… property; once per node
    root.addEventListener("focusin", (event) => onFocus(state, event));
    root.addEventListener("focusout", () => {
      state.cursor = null;
      paintMarks(state);
    });
    state.listening = true;
  }
  paintSteps(state);
  return unmount(state);
}
