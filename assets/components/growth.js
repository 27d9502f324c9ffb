// The rows of a key-value cache after one decode step: a line a token, its keys, its values, and the weight that it gets.
// data: {tokens, places, k (rows × d) float32, v? (rows × d_v), w? (rows,) with −1 for gaps, q? (d,), full: [of k, of v, of q or null],
//        titles: [of k, of v, of w], queryLabel, new: [place, place behind], chosen: place or null, forgotten, pending,
//        most: rows at the end of the run, label}. Trigger "choose": {place}.
// blocks.js and rows.js stand in front of this file: the one knows how numbers are written, the other where rows lie and how
// they are painted. Here are the words beside them, and what happens when somebody looks at a cell. A look is {row, cell}:
// row −1 is the query, cell null the row as a whole; cells are numbered through k, v and the weight.

function makeGrowth(root) {
  const find = (name) => root.querySelector(name);
  return { picture: find(".picture"), canvas: find("canvas"), texts: find(".texts"), labels: find(".labels"), mark: find(".mark"),
           fresh: find(".fresh"), chosen: find(".chosen"), veil: find(".veil"), note: find(".note"), status: find(".status"),
           legend: find(".legend"), tip: find(".tip"), named: [], room: 0, drawn: null, cursor: null, hover: null,
           choose: () => {} };
}

// ---- the words beside them ----

const rowName = (data, row) => `${quoted(data.tokens[row])} (${data.places[row]})`;

function weightWords(data, row) {
  if (data.w[row] < 0) return "the query cannot look there";
  return `gets ${exactly(data.w[row])} of the look`;
}

/** A row as a whole. */
function rowWords({ data, facts: { first, chosen } }, row) {
  const parts = [row < first ? "reused, as an earlier step left it" : "computed in this step"];
  if (data.w) parts.push(weightWords(data, row));
  if (row === chosen) parts.push("chosen");
  return `${rowName(data, row)}: ${parts.join(", ")}`;
}

/** A look in words. */
function wordsOf(state, { row, cell }) {
  const { data, facts: { d, dv } } = state;
  if (row < 0) return cell === null ? data.queryLabel : `${assigned(`q[${cell}]`, data.q[cell])} (${data.queryLabel})`;
  if (cell === null) return rowWords(state, row);
  if (cell >= d + dv) return `${rowName(data, row)} ${weightWords(data, row)}`;
  const [letter, i, value] = cell < d ? ["k", cell, data.k[row * d + cell]] : ["v", cell - d, data.v[row * dv + cell - d]];
  return assigned(`${letter}[${i}] of ${rowName(data, row)}`, value);
}

/** 13 rows: 12 reused, 1 computed (“king”) */
function restingWords({ data, facts: { rows, first } }) {
  const many = (n) => `${count(n)} ${n === 1 ? "row" : "rows"}`;
  const made = rows - first;
  const names = made && made <= 3 ? ` (${listed(data.tokens.slice(first).map(quoted))})` : "";
  const split = first === 0 ? `all computed in this step${names}` : `${count(first)} reused, ${count(made)} computed${names}`;
  const next = data.pending ? ` ${quoted(data.pending)} was chosen and has no row yet.` : "";
  return `${many(rows)}: ${split}.${next}`;
}

// ---- what stands beside the pictures ----

const box = (node, left, y, width, height) => {
  node.style.cssText = `left: ${left}px; top: ${y}px; width: ${width}px; height: ${height}px`;
};

/** The row whose name stands for a line: the chosen one, the heaviest of all, else its first. */
function namedRow({ facts: { chosen, heaviest } }, { first, end }) {
  return [chosen, heaviest].find((row) => row !== null && row >= first && row < end) ?? first;
}

/** The lines whose tokens are written beside them: all that have room, those that matter first. */
function namedLines({ plan, facts: { rows, chosen, heaviest } }) {
  const kept = [rows - 1, chosen, heaviest, 0].filter((row) => row !== null && row >= 0).map((row) => lineAt(plan, row));
  return shownLabels(plan.lines.length, Math.max(1, Math.ceil((plan.text * 0.88) / plan.high)), new Set(kept)).sort((a, b) => a - b);
}

function paintLabels(state) {
  const { data, plan, labels, facts: { first, chosen } } = state;
  const { x, lines, high, apart, text } = plan;
  const parts = ["place", "token", "percent"];
  const shown = namedLines(state);
  keep(state.named, shown.length, () => {
    const [place, token, percent] = parts.map((name) => child(labels, "span", name));
    return { place, token, percent, node: { remove: () => [place, token, percent].forEach((node) => node.remove()) } };
  });
  shown.forEach((line, i) => {
    const row = namedRow(state, lines[line]);
    const own = state.named[i];
    const y = top(plan, line) + (high - apart - text) / 2;
    box(own.place, x.place, y, plan.place, text);
    box(own.token, x.token, y, plan.token, text);
    box(own.percent, x.w + plan.wide.w + 8, y, plan.percents, text);
    say(own.place, String(data.places[row]));
    say(own.token, oneLine(data.tokens[row]));
    const best = data.w && (lines[line].end - lines[line].first > 1 ? heaviestOf(data, lines[line]) : row);
    say(own.percent, data.w ? (data.w[best] < 0 ? "–" : percent(data.w[best])) : "");
    for (const name of parts) {
      own[name].classList.toggle("strong", row === chosen || (row >= first && first > 0));
      own[name].classList.toggle("new", row >= first && first > 0 && name !== "percent");
    }
  });
}

/** A bracket round rows from … end − 1, with its word in the margin. */
function paintBracket(state, part, name, from, end) {
  const { plan } = state;
  const rows = end - from;
  const [upper, lower] = [top(plan, lineAt(plan, from)), top(plan, lineAt(plan, end - 1)) + plan.high - plan.apart];
  const tall = lower - upper > 2.6 * plan.text;
  const shown = plan.gutter > 0 && rows > 0;
  for (const node of [part.word, part.bracket]) node.hidden = !shown;
  if (!shown) return;
  part.word.className = `word ${name}`;
  part.bracket.className = `bracket ${name}`;
  say(part.word.firstChild, name);
  say(part.word.lastChild, tall ? `${count(rows)} ${rows === 1 ? "row" : "rows"}` : "");
  const height = tall ? 2 * plan.text : plan.text;
  box(part.word, 0, (upper + lower - height) / 2, plan.gutter - 16, height);
  box(part.bracket, plan.gutter - 11, upper, 7, Math.max(lower - upper, 4));
}

function makeTexts(parent) {
  const bracket = () => {
    const word = child(parent, "span", "word");
    child(word, "span");
    child(word, "small");
    return { word, bracket: child(parent, "span", "bracket") };
  };
  const [query, says, gone, empty] = ["query", "says", "gone", "empty"].map((name) => child(parent, "span", name));
  const titles = ["k", "v", "w"].map(() => child(parent, "span", "title"));
  return { query, says, titles, gone, forgotten: child(gone, "span"), reused: bracket(), computed: bracket(), empty };
}

function paintTexts(state) {
  const { data, plan, facts: { rows, first } } = state;
  const { x, y, wide, text, strip, twoLines } = plan;
  const parts = (state.parts ??= makeTexts(state.texts));
  for (const node of [parts.query, parts.says]) node.hidden = !data.q;
  say(parts.query, data.queryLabel);
  box(parts.query, 0, y.query + strip / 2 - (twoLines ? text : text / 2), x.k - 10, 2 * text);
  say(parts.says, "is compared with every row of K ↓");
  box(parts.says, x.k + wide.k + 12, y.query + (strip - text) / 2, x.end - x.k - wide.k - 12, text);
  const rights = [wide.k, wide.v, x.end - x.w];
  parts.titles.forEach((node, i) => {
    say(node, data.titles[i]);
    node.hidden = !(i === 0 || (i === 1 ? data.v : data.w));
    box(node, [x.k, x.v, x.w][i], y.titles, rights[i], text);
  });
  parts.gone.hidden = !data.forgotten;
  box(parts.gone, x.k, y.gone, x.end - x.k, text);
  const which = data.forgotten === 1 ? "row 0 is forgotten" : `rows 0–${data.forgotten - 1} are forgotten`;
  say(parts.forgotten, data.forgotten ? `${which}: the window keeps the last ${count(rows)}` : "");
  paintBracket(state, parts.reused, "reused", 0, first);
  paintBracket(state, parts.computed, "computed", first, rows);
  parts.empty.hidden = !data.pending;
  say(parts.empty, data.pending ? `${quoted(data.pending)} was chosen: no row yet` : "");
  box(parts.empty, x.k, top(plan, plan.lines.length) + 6, wide.k + wide.v + (x.v - x.k - wide.k), plan.end - 8);
}

function paintLegend(state) {
  const { data, theme, legend } = state;
  const kinds = [["K", data.full[0]], ...(data.v ? [["V", data.full[1]]] : [])];
  if (unchanged(state, "legendBefore", [kinds, theme])) return;
  legend.replaceChildren();
  for (const [letter, full] of kinds) {
    const item = child(legend, "span");
    const end = String(Number(full.toPrecision(2)));
    say(child(item, "b"), letter);
    item.append(`≤ −${end}`);
    child(item, "span", "scale").style.background = `linear-gradient(to right, ${theme.lessMore.join(", ")})`;
    item.append(`≥ ${end}`);
  }
}

/** Frames round the new rows and the chosen one; new rows fade in once. */
function paintBands(state) {
  const { plan, fresh, chosen, facts: own } = state;
  const [left, right] = plan.thin ? [plan.x.k - 4, plan.x.w + plan.wide.w + 4] : [plan.x.place + 2, plan.x.end + 2]; // never through a word
  const around = (node, from, end, out) => {
    node.hidden = !(end > from);
    if (node.hidden) return;
    const [upper, lower] = [top(plan, lineAt(plan, from)), top(plan, lineAt(plan, end - 1)) + plan.high - plan.apart];
    box(node, left, upper - out, right - left, lower - upper + 2 * out);
  };
  around(fresh, own.first, own.rows, 1);
  around(chosen, own.chosen ?? 0, own.chosen === null ? 0 : own.chosen + 1, Math.max(plan.apart, 1));
}

const STILL = window.matchMedia("(prefers-reduced-motion: reduce)");

/** A row that has just been computed comes in from below; on the first picture nothing moves. */
function arrive(state) {
  const { data, plan, veil, fresh, facts: { first, rows } } = state;
  const now = `${data.new}`;
  const moves = state.arrived !== undefined && state.arrived !== now && first > 0 && first < rows && !STILL.matches;
  state.arrived = now;
  veil.hidden = !moves;
  if (!moves) return;
  box(veil, plan.x.k, top(plan, lineAt(plan, first)), plan.x.end - plan.x.k, (rows - first) * plan.high);
  const below = { transform: `translateY(${plan.text}px)`, opacity: 0 };
  veil.animate([{ opacity: 1 }, { opacity: 0 }], { duration: 420, easing: "ease-out" });
  fresh.animate([below, { transform: "none", opacity: 1 }], { duration: 320, easing: "ease-out" });
}

// ---- the whole ----

function paintGrowth(state) {
  const { root, data } = state;
  if (!state.width || !data.tokens.length) return;
  const began = performance.now();
  const theme = (state.theme = readTheme(root));
  state.facts = facts(data);
  const plan = (state.plan = planGrowth(state));
  const look = { muted: css(theme.muted), line: css(theme.line), text: `${plan.text}px`,
                 chosen: css(mix(theme.accent, theme.background, 0.22)) };
  for (const [name, value] of Object.entries(look)) root.style.setProperty(`--${name}`, value);
  state.picture.style.height = `${plan.height}px`;
  state.canvas.style.left = `${plan.x.k}px`;
  state.colors ??= new WeakMap();
  if (!state.colors.has(theme)) state.colors.set(theme, inks(theme.difference, theme.background, 1));
  const colors = state.colors.get(theme);
  const lines = paintRows(state, colors);
  paintQuery(state, colors);
  paintWeights(state);
  paintLabels(state);
  paintTexts(state);
  paintBands(state);
  paintLegend(state);
  const shared = `A line stands for ${plan.each} rows: each cell shows the number furthest from 0, the bar the largest weight.`;
  say(state.note, plan.each > 1 ? `${shared} Point at it for the row.` : "");
  state.note.hidden = plan.each === 1;
  const about = `${data.label ? `${data.label}. ` : ""}${restingWords(state)}`;
  set(state.picture, "aria-label", `${about} Arrow keys read the rows and their numbers, Enter chooses a row.`);
  arrive(state);
  paintMark(state);
  painted(state, { rows: data.tokens.length, chosen: data.chosen ?? "", drawn: lines, paintMs: (performance.now() - began).toFixed(1) });
}

// ---- looking and choosing ----

/** Where a look is: [left, top, width, height]. */
function boxOf({ plan, facts: { d, dv, dq } }, { row, cell }) {
  const { x, y, wide } = plan;
  const query = row < 0;
  const line = query ? 0 : lineAt(plan, row);
  const [upper, high] = query ? [y.query, plan.strip] : [top(plan, line), plan.high - plan.apart];
  if (query && cell === null) return [x.k, upper, wide.k, high];
  if (cell === null) return plan.thin ? [x.k, upper, x.w + wide.w - x.k, high] : [x.place + 2, upper, x.end - x.place, high];
  if (!query && cell >= d + dv) return [x.w, upper, plan.thin ? wide.w : x.end - x.w, high];
  const [left, width, n, i] = query ? [x.k, wide.k, dq, cell] : cell < d ? [x.k, wide.k, d, cell] : [x.v, wide.v, dv, cell - d];
  return [left + Math.min((i * width) / n, width - 3), upper, Math.max(width / n, 3), high];
}

function paintMark(state) {
  if (!state.plan) return; // not painted yet
  const { facts: own, data } = state;
  const cellsOf = (row) => (row < 0 ? own.dq : own.cells);
  const there = (look) => look && look.row < own.rows && (look.row >= 0 || data.q) && (look.cell ?? 0) < cellsOf(look.row);
  for (const name of ["hover", "cursor"]) if (!there(state[name])) state[name] = null; // a rerun may have other rows
  const look = state.hover ?? state.cursor;
  const words = look && wordsOf(state, look);
  say(state.status, words ?? `${restingWords(state)} Point at a cell for its exact number; click a row to choose it.`);
  say(state.tip, state.hover ? words : "");
  if (!state.hover) state.tip.hidden = true;
  state.mark.hidden = !look;
  if (!look) return;
  state.mark.classList.toggle("whole", look.cell === null);
  box(state.mark, ...boxOf(state, look));
}

/** What is under the pointer. */
function lookAt(state, event) {
  const { plan, drawn, data, facts: { d, dv, dq } } = state;
  const { x, y, wide } = plan;
  const area = state.picture.getBoundingClientRect();
  const [left, down] = [event.clientX - area.left, event.clientY - area.top];
  const cellIn = (name, n) => (left >= x[name] && left < x[name] + wide[name] ? Math.floor(((left - x[name]) * n) / wide[name]) : -1);
  if (down < y.titles) {
    const cell = cellIn("k", dq);
    return !dq || left >= x.k + wide.k ? null : { row: -1, cell: cell < 0 ? null : cell };
  }
  const line = Math.floor((down - y.rows) / plan.high);
  if (line < 0 || line >= plan.lines.length || left < x.place) return null;
  for (const [name, n, before] of [["k", d, 0], ["v", dv, d]]) {
    const found = drawn.lines[line].found[name];
    const at = found ? found[cellIn(name, found.length)] : undefined;
    if (at !== undefined) return { row: Math.floor(at / n), cell: before + (at % n) };
  }
  if (data.w && left >= x.w) return { row: heaviestOf(data, plan.lines[line]), cell: d + dv };
  return { row: namedRow(state, plan.lines[line]), cell: null };
}

function pointAt(state, hover) {
  state.hover = hover;
  paintMark(state);
}

function chooseRow(state, row) {
  const place = state.data.places[row];
  if (place === undefined) return;
  state.data.chosen = place === state.data.chosen ? null : place; // shown at once; the page's answer paints it again
  paintGrowth(state);
  state.choose({ place });
}

/** Where a key leads: to a look, to null (let go), or to undefined where it means nothing here. */
function goalOf({ data, facts: { rows, cells, dq } }, { row, cell }, key) {
  const to = (other, at) => {
    const next = clamp(other, data.q ? -1 : 0, rows - 1);
    return { row: next, cell: at === null ? null : clamp(at, 0, (next < 0 ? dq : cells) - 1) };
  };
  switch (key) {
    case "Escape": return null;
    case "ArrowDown": return to(row + 1, cell);
    case "ArrowUp": return to(row - 1, cell);
    case "PageDown": return to(row + 10, cell);
    case "PageUp": return to(row - 10, cell);
    case "ArrowRight": return to(row, (cell ?? -1) + 1);
    case "ArrowLeft": return to(row, (cell ?? Infinity) - 1);
    case "Home": return to(row, 0);
    case "End": return to(row, Infinity);
    default: return undefined;
  }
}

/** Where reading begins: at the chosen row, else at the newest. */
const start = ({ facts: { rows, chosen } }) => ({ row: chosen ?? rows - 1, cell: null });

function onKey(state, event) {
  if (!state.plan || event.ctrlKey || event.metaKey || event.altKey) return;
  const chooses = event.key === "Enter" || event.key === " ";
  const goal = chooses ? state.cursor : goalOf(state, state.cursor ?? start(state), event.key);
  if (goal === undefined) return;
  event.preventDefault();
  event.stopPropagation(); // the page has shortcuts of its own on these keys
  state.hover = null;
  state.cursor = goal;
  if (chooses && goal) chooseRow(state, goal.row);
  paintMark(state);
}

/** A click keeps what it points at until Escape, and chooses its row. */
function onClick(state, event) {
  state.cursor = lookAt(state, event);
  if (state.cursor) chooseRow(state, state.cursor.row);
  paintMark(state);
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".growth", makeGrowth, paintGrowth);
  const { picture } = state;
  state.runs += 1;
  const optional = (table) => (table ? numbers(table) : null);
  state.data = { ...data, k: numbers(data.k), v: optional(data.v), w: optional(data.w), q: optional(data.q) };
  state.choose = (value) => setTriggerValue("choose", value);
  picture.onmousemove = (event) => {
    pointAt(state, lookAt(state, event));
    followPointer(state, event);
  };
  picture.onmouseleave = () => pointAt(state, null);
  picture.onclick = (event) => onClick(state, event);
  picture.onkeydown = (event) => onKey(state, event);
  picture.onfocus = () => {
    if (!picture.matches(":focus-visible")) return;
    state.cursor ??= start(state);
    paintMark(state);
  };
  picture.onblur = () => {
    state.cursor = null;
    paintMark(state);
  };
  paintGrowth(state);
  return unmount(state);
}
