// How much each token mattered: a row a token, a column a method, bars on a zero line.
// data: {tokens, places: of the rows' tokens, columns: [{name, note, pending, ends: [low, high], texts, words}], z and error: the
//        numbers of all columns one after the other, float32 with −1.2345e38 for gaps, apart: the last row does not follow the
//        others, more: a sentence on tokens without a row, chosen: place or null, label}.
// Trigger "choose": {token} (the place of the token; again for the chosen one: it is chosen no longer).

const NO_NUMBER = Math.fround(-1.2345e38);
const PAD = 8; // on both sides, for the ring of the chosen row
const SPACE = 6; // between a bar and its number
const LEAST = { ends: 5.5, beside: 4 }; // rem for the bars alone, where numbers stand there

function makeRelevance(root) {
  const find = (name) => root.querySelector(name);
  return { headsNode: find(".heads"), rowsNode: find(".rows"), more: find(".more"), legend: find(".legend"), tip: find(".tip"),
           heads: [], rows: [], active: null, told: null, known: undefined, hover: null, choose: () => {} };
}

const missing = (value) => value === NO_NUMBER;
const numberOf = (list, data, column, row) => list[column * data.places.length + row];

// ---- where things lie ----

/** How far a row's number stands from zero: beyond its bar and its interval. */
function reach(data, c, row) {
  const [value, error] = [numberOf(data.z, data, c, row), numberOf(data.error, data, c, row)];
  if (missing(value)) return 0;
  const around = error > 0 ? error : 0;
  return value < 0 ? value - around : value + around;
}

/** One column: pixels from its left edge to zero, pixels a unit, what is left for bars, and the widths of its numbers. */
function planColumn(data, c, wide, measure, numbersAt) {
  const { texts, ends: [low, high] } = data.columns[c];
  const rows = texts.map((text, row) => ({ width: text ? measure(text) : 0, to: reach(data, c, row) }));
  const most = (list) => list.reduce((all, { width }) => Math.max(all, width), 0);
  const taken = { ends: [rows.filter(({ to }) => to < 0), rows.filter(({ to }) => to >= 0)], beside: [[], rows], over: [[], []] };
  const [before, after] = taken[numbersAt].map((list) => most(list) && most(list) + SPACE);
  const room = wide - before - after;
  const unit = Math.max(room, 1) / (high - low);
  return { room, unit, zero: before - low * unit, texts: rows.map(({ width }) => width) };
}

function planRelevance({ data, theme, width }) {
  const { rem, font } = theme;
  const n = data.columns.length;
  const measure = (text) => {
    swatch.font = `700 ${rem}px ${font}`; // as a chosen row's
    return Math.ceil(swatch.measureText(text).width) + 1;
  };
  const widestOf = (texts) => texts.reduce((most, text) => Math.max(most, measure(text)), 0);
  const gap = Math.round((n > 4 ? 0.75 : 2) * rem);
  const inside = width - 2 * PAD;
  const place = widestOf([String(Math.max(...data.places))]);
  const heads = data.columns.map(({ name, note, pending }) => `${name} ${pending ? "computing" : note}`);
  const longest = widestOf(heads.flatMap((words) => words.split(/[\s-]+/)));
  const most = Math.min(14 * rem, inside * 0.18, inside - n * (longest + gap) - place - 0.6 * rem); // no method's name is broken
  const label = place + 0.6 * rem + clamp(widestOf(data.tokens.map(oneLine)) + 4, 3 * rem, Math.max(most, 3.5 * rem));
  const wide = Math.min(Math.floor((inside - label - gap * n) / Math.max(n, 1)), 44 * rem);
  // A number stands at the end of its bar where that leaves room for the bar, else at the end of the column, else over the bar.
  const [numbersAt, columns] = ["ends", "beside", "over"]
    .map((where) => [where, data.columns.map((_, c) => planColumn(data, c, wide, measure, where))])
    .find(([where, plans]) => where === "over" || plans.every(({ room }) => room >= LEAST[where] * rem));
  const size = (numbersAt === "over" ? 0.94 : 1) * rem;
  const row = Math.round(clamp(610 / data.places.length, (numbersAt === "over" ? 1.8 : 1.6) * rem, 1.8 * rem));
  return { numbersAt, columns, size, gap, label, place, row, wide };
}

// ---- painting ----

function makeRow(parent) {
  const node = child(parent, "div", "line");
  set(node, "role", "option");
  const label = child(node, "span", "label");
  return { node, place: child(label, "span", "place"), token: child(label, "bdi"), cells: [] };
}

function makeCell(parent) {
  const node = child(parent, "span", "cell");
  return { node, bar: child(node, "span", "bar"), zero: child(node, "span", "zero"),
           whisker: child(node, "span", "whisker"), value: child(node, "span", "value") };
}

/** Lays a node from one place of its cell to another. */
function layAlong(node, from, to, least) {
  const wide = Math.max(Math.abs(to - from), least);
  node.style.left = `${to < from ? from - wide : from}px`;
  node.style.width = `${wide}px`;
}

/** A number at the end of its bar or its interval, at the end of the column, or over the bar. */
function placeNumber(node, { numbersAt, wide }, { zero, unit, texts }, row, to) {
  const end = zero + to * unit;
  const [left, right] = {
    ends: to < 0 ? [null, wide - end + SPACE] : [end + SPACE, null],
    beside: [null, 0],
    over: [Math.max(0, to < 0 ? zero - texts[row] : Math.min(zero, wide - Math.max(...texts))), null],
  }[numbersAt];
  node.style.left = left === null ? "auto" : `${left}px`;
  node.style.right = right === null ? "auto" : `${right}px`;
}

function paintCell(cell, data, c, row, plan) {
  const { zero, unit } = plan.columns[c];
  const column = data.columns[c];
  const [value, error] = [numberOf(data.z, data, c, row), numberOf(data.error, data, c, row)];
  const none = missing(value);
  const name = `cell${column.pending ? " pending" : none ? " none" : ""}`;
  if (cell.node.className !== name) cell.node.className = name;
  cell.bar.hidden = none || value === 0;
  cell.bar.className = `bar ${!column.signed ? "amount" : value < 0 ? "against" : "for"}`;
  if (!cell.bar.hidden) layAlong(cell.bar, zero, zero + value * unit, 1.5);
  cell.zero.hidden = column.pending;
  cell.zero.style.left = `${zero - (zero >= 1 ? 0.5 : 0)}px`;
  cell.whisker.hidden = none || !(error > 0);
  if (!cell.whisker.hidden) layAlong(cell.whisker, zero + (value - error) * unit, zero + (value + error) * unit, 4);
  say(cell.value, column.texts[row]);
  placeNumber(cell.value, plan, plan.columns[c], row, reach(data, c, row));
}

/** Everything about one token in words, a line a method: for the bubble and for a screen reader. */
function tell({ columns, tokens, places }, row) {
  return [`${quoted(tokens[row])}, place ${places[row]}`, ...columns.map(({ name, words }) => `${name}: ${words[row]}`)];
}

function paintHeads(state) {
  const { data, heads, headsNode } = state;
  keep(heads, data.columns.length + 1, () => {
    const node = child(headsNode, "span", "head");
    return { node, name: child(node, "span", "name"), note: child(node, "span", "note") };
  });
  heads.forEach(({ node, name, note }, i) => {
    const column = data.columns[i - 1];
    node.classList.toggle("pending", column?.pending ?? false);
    say(name, column?.name ?? "");
    say(note, column?.pending ? "computing …" : (column?.note ?? ""));
  });
}

function paintRows(state, plan) {
  const { data, rows, rowsNode } = state;
  keep(rows, data.places.length, () => makeRow(rowsNode));
  rows.forEach(({ node, place, token, cells }, row) => {
    set(node, "aria-label", tell(data, row).join(". "));
    set(node, "aria-selected", data.places[row] === data.chosen);
    set(node, "data-token", data.places[row]);
    set(node, "tabindex", data.places[row] === state.active ? 0 : -1);
    node.classList.toggle("apart", data.apart && row === rows.length - 1);
    say(place, String(data.places[row]));
    say(token, oneLine(data.tokens[row]));
    keep(cells, data.columns.length, () => makeCell(node));
    cells.forEach((cell, c) => paintCell(cell, data, c, row, plan));
  });
}

function paintFoot({ data, more, legend }) {
  say(more, data.more);
  more.hidden = !data.more;
  const signed = data.columns.some((column) => column.signed && column.ends[0] < 0);
  const amounts = data.columns.some((column) => !column.signed && !column.pending);
  const sure = data.error.some((error) => error > 0);
  for (const node of legend.querySelectorAll(".sides")) node.hidden = !signed;
  legend.querySelector(".much").hidden = !amounts || !signed;
  legend.querySelector(".sure").hidden = !sure;
  legend.hidden = !signed && !sure;
}

function paintRelevance(state) {
  const { root, data } = state;
  if (!state.width) return;
  const theme = (state.theme = readTheme(root));
  const plan = planRelevance(state);
  const less = rgb(theme.lessMore[5]);
  const columns = [plan.label, ...plan.columns.map(() => plan.wide)].map((wide) => `${wide}px`).join(" ");
  const look = { muted: css(theme.muted), faint: css(mix(theme.text, theme.background, 0.06)),
                 chosen: css(mix(theme.accent, theme.background, 0.13)), axis: css(mix(theme.text, theme.background, 0.45)),
                 less: css(less), "less-pale": css(mix(less, theme.background, 0.28)), columns, number: `${plan.size}px`,
                 gap: `${plan.gap}px`, pad: `${PAD}px`, place: `${plan.place}px`, row: `${plan.row}px` };
  for (const [name, value] of Object.entries(look)) root.style.setProperty(`--${name}`, value);
  root.classList.toggle("over", plan.numbersAt === "over");
  set(state.rowsNode, "aria-label", `${data.label || "How much each token mattered"}. Enter marks a token.`);
  const focused = state.rows.findIndex(({ node }) => node === root.getRootNode().activeElement);
  if (!data.places.includes(state.active)) {
    const near = focused < 0 ? data.places.indexOf(data.chosen) : Math.min(focused, data.places.length - 1);
    state.active = data.places[Math.max(near, 0)];
  }
  paintHeads(state);
  paintRows(state, plan);
  paintFoot(state);
  // The token may stand in another row now, or have lost its row; the page stays where it is.
  if (focused >= 0) rowNode(state, state.active)?.focus({ preventScroll: true });
  const row = data.places.indexOf(state.told);
  if (row < 0) hideTip(state);
  else say(state.tip, tell(data, row).join("\n"));
  painted(state, { chosen: data.chosen ?? "", rows: data.places.length, numbers: plan.numbersAt });
}

// ---- looking and choosing ----

const rowNode = (state, token) => state.rows[state.data.places.indexOf(token)]?.node;

const tokenOf = (event) => {
  const node = event.target.closest?.(".line");
  return node ? Number(node.dataset.token) : null;
};

function hideTip(state) {
  [state.hover, state.told, state.tip.hidden] = [null, null, true];
}

function fillTip(state, token) {
  state.told = token;
  say(state.tip, tell(state.data, state.data.places.indexOf(token)).join("\n"));
  state.tip.hidden = false;
}

function onMove(state, event) {
  const token = tokenOf(event);
  if (token === null) return hideTip(state);
  state.hover = { token };
  fillTip(state, token);
  followPointer(state, event);
}

/** The bubble of a row that has the focus: under its right end, where it covers no label. */
function tipAt(state, token) {
  const { tip, root } = state;
  fillTip(state, token);
  const [box, row] = [root.getBoundingClientRect(), rowNode(state, token).getBoundingClientRect()];
  tip.style.transform = `translate(${Math.max(0, box.width - tip.offsetWidth - PAD)}px, ${row.bottom - box.top + 6}px)`;
}

/** The single tab stop follows the focus. */
function onFocus(state, event) {
  const token = tokenOf(event);
  if (token === null) return;
  state.active = token;
  state.rows.forEach(({ node }, row) => set(node, "tabindex", state.data.places[row] === token ? 0 : -1));
  if (event.target.matches(":focus-visible")) tipAt(state, token);
}

function chooseToken(state, token) {
  if (token === null) return;
  const { data } = state;
  data.chosen = state.known = token === data.chosen ? null : token; // shown at once; the page's answer paints it again
  paintRelevance(state);
  state.choose({ token });
}

function onKey(state, event) {
  const token = tokenOf(event);
  if (token === null || event.ctrlKey || event.metaKey || event.altKey) return;
  const { data } = state;
  const row = data.places.indexOf(token);
  const goal = { ArrowUp: row - 1, ArrowDown: row + 1, Home: 0, End: data.places.length - 1 }[event.key];
  const chooses = event.key === "Enter" || event.key === " ";
  if (goal === undefined && !chooses && event.key !== "Escape") return;
  event.preventDefault();
  event.stopPropagation(); // the page has shortcuts of its own on these keys
  if (goal !== undefined) state.rows[clamp(goal, 0, state.rows.length - 1)].node.focus();
  else if (chooses) chooseToken(state, token);
  else {
    hideTip(state);
    chooseToken(state, data.chosen);
  }
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".relevance", makeRelevance, paintRelevance);
  const { root, rowsNode } = state;
  state.runs += 1;
  state.data = { ...data, z: numbers(data.z), error: numbers(data.error) };
  const here = rowsNode.contains(root.getRootNode().activeElement); // what is chosen elsewhere does not move it
  if (!here && data.chosen !== null && data.chosen !== state.known) state.active = data.chosen;
  state.known = data.chosen;
  state.choose = (value) => setTriggerValue("choose", value);
  rowsNode.onmousemove = (event) => onMove(state, event);
  rowsNode.onmouseleave = () => hideTip(state);
  rowsNode.onclick = (event) => chooseToken(state, tokenOf(event));
  rowsNode.onkeydown = (event) => onKey(state, event);
  if (!state.listening) {
    // these have no on… property; once per node
    root.addEventListener("focusin", (event) => onFocus(state, event));
    root.addEventListener("focusout", () => hideTip(state));
    state.listening = true;
  }
  paintRelevance(state);
  return unmount(state);
}
