// One head or several as lines: the tokens that look on the left, the tokens looked at on the right, a line for each
// weight, stronger for a larger one, in a colour of its own for each head.
// data: {z (heads × query tokens × key tokens) float32 with −1 for gaps, names: [head, …], queries, keys, row, title,
//        cut (weights below are not drawn), scale?: {log, per}}.
// Trigger "choose": {token} (the query).

const TALLEST_COLUMN = 620; // pixels while the rows stay readable …
const LONGEST_COLUMN = 900; // … and at most
const [LARGEST_PITCH, READABLE_PITCH] = [30, 14];
const WIDEST_MIDDLE = 540; // between the two columns
const MOST_LINES = 4000;
const LEVELS = 32; // of strength: the lines of a level are drawn with one pen
const MOST_COLUMNS = 4; // of numbers; of more heads the largest weight alone stands beside a token
const MOST_WORDS = 3; // tokens named for a head in the status line

function makeLines(root) {
  const find = (name) => root.querySelector(name);
  return {
    picture: find("canvas.picture"), title: find(".title"), heads: find(".heads"), meaning: find(".meaning"),
    note: find(".note"), status: find(".status"), layer: document.createElement("canvas"),
    cursor: null, hover: null, locked: null, choose: () => {},
  };
}

// A token is {side: "query" or "key", at}.
const isSame = (a, b) => a?.side === b?.side && a?.at === b?.at;
const tokensOf = (data, side) => (side === "query" ? data.queries : data.keys);
const weightAt = (data, head, q, k) => data.z[(head * data.queries.length + q) * data.keys.length + k];

// ---- where things lie ----

/** Height of all and the places of `count` tokens in it, in the middle. */
function column(count, height) {
  const pitch = Math.min(LARGEST_PITCH, height / count);
  return { count, pitch, top: (height - count * pitch) / 2 };
}

function planLines(pen, data, width, theme) {
  const most = Math.max(data.queries.length, data.keys.length);
  const pitch = clamp(TALLEST_COLUMN / most, Math.min(READABLE_PITCH, LONGEST_COLUMN / most), LARGEST_PITCH);
  const type = letters(pitch, theme.rem);
  const [top, height] = [theme.rem * 1.6 + Math.max(0, (type.size * 1.2 - pitch) / 2), most * pitch];
  pen.font = `700 ${type.size}px ${theme.font}`; // bold is the widest a label gets
  const room = Math.min(width * 0.2, 170);
  const labels = { query: fitLabels(pen, data.queries, room), key: fitLabels(pen, data.keys, room) };
  const number = pen.measureText("100.0%").width + 8;
  const needs = (columns) => widest(labels.query) + widest(labels.key) + 2 * columns * number + 40;
  const wanted = data.names.length <= MOST_COLUMNS ? data.names.length : 1;
  const columns = width - needs(wanted) >= 200 ? wanted : 1;
  const caption = `${Math.round(theme.rem * 0.95)}px ${theme.font}`;
  const left = Math.ceil(columns * number + widest(labels.query) + 12); // where the lines begin
  const middle = clamp(width - needs(columns), 60, WIDEST_MIDDLE);
  return { type, labels, number, columns, caption, top, height, left, right: left + 16 + middle,
           width: Math.ceil(left + 16 + middle + widest(labels.key) + 12 + columns * number),
           query: column(data.queries.length, height), key: column(data.keys.length, height),
           total: Math.ceil(top + height + Math.max(6, (type.size * 1.2 - pitch) / 2)) };
}

/** The middle of a token's row, from the top of the canvas. */
const heightOf = (map, { side, at }) => map.top + map[side].top + (at + 0.5) * map[side].pitch;

// ---- which lines ----

/** The smallest weight that is drawn, and what is left out in numbers: {least, under, underSum, drawn, drawable, sums}. */
function choiceOfLines(data) {
  const found = { least: data.cut, under: 0, underSum: 0, drawable: 0, sum: 0, drawnSum: 0 };
  for (const weight of data.z) {
    if (!(weight > 0)) continue;
    found.sum += weight;
    if (weight >= data.cut) found.drawable += 1;
    else {
      found.under += 1;
      found.underSum += weight;
    }
  }
  if (found.drawable > MOST_LINES) found.least = Math.max(data.cut, data.z.slice().sort().at(-MOST_LINES));
  let drawn = 0;
  for (const weight of data.z) {
    if (!(weight > 0) || weight < found.least) continue;
    drawn += 1;
    found.drawnSum += weight;
  }
  return { ...found, drawn };
}

/** What is not drawn, in words. */
function leftOutInWords({ under, underSum, drawable, drawn, drawnSum, sum }, cut) {
  const words = [];
  if (under) {
    const lines = under === 1 ? "1 line" : `${count(under)} lines`;
    words.push(`${lines} under ${short(cut)} ${under === 1 ? "is" : "are"} not drawn, together ${percent(underSum / sum)} of all weight.`);
  }
  if (drawn < drawable) {
    words.push(`Of the ${count(drawable)} ${under ? "other " : ""}lines the ${count(drawn)} strongest are drawn, ` +
      `together ${percent(drawnSum / sum)} of all weight; point at a token for all of its own.`);
  }
  return words.join(" ");
}

/** The weights of one token: for each head those of the tokens on the other side, the heaviest first; gaps are left out. */
function weightsOf(data, { side, at }) {
  return data.names.map((_, head) => {
    const found = [];
    tokensOf(data, side === "query" ? "key" : "query").forEach((_, other) => {
      const weight = side === "query" ? weightAt(data, head, at, other) : weightAt(data, head, other, at);
      if (weight >= 0) found.push({ other, weight });
    });
    return found.sort((a, b) => b.weight - a.weight || a.other - b.other);
  });
}

// ---- painting ----

/** Collects lines by head and strength, so that thousands share a few pens; the strong ones end on top. */
function bundle(state) {
  const { data, map, theme } = state;
  const bundles = new Map(); // level and head in one number → [left end, right end, left end, …]
  const [from, to] = [map.left + 8, map.right - 8];
  const shift = Math.min(2.5, map.query.pitch / (data.names.length + 1)); // lines of two heads lie beside each other
  const thickest = clamp(map.query.pitch * 0.6, 1, 3.5);
  const add = (head, q, k, weight) => {
    const level = Math.ceil(strength(weight, state.full[head][q], Boolean(data.scale?.log)) * LEVELS);
    if (!level) return;
    const name = level * data.names.length + head;
    if (!bundles.has(name)) bundles.set(name, []);
    const aside = (head - (data.names.length - 1) / 2) * shift;
    bundles.get(name).push(heightOf(map, { side: "query", at: q }) + aside, heightOf(map, { side: "key", at: k }) + aside);
  };
  const stroke = (pen) => {
    for (const name of [...bundles.keys()].sort((a, b) => a - b)) {
      const share = Math.floor(name / data.names.length) / LEVELS;
      pen.strokeStyle = css(palette(theme, name % data.names.length).color);
      pen.globalAlpha = share;
      // Most lines are weak: one pixel is drawn several times as fast as anything wider.
      pen.lineWidth = 1 + (thickest - 1) * Math.max(0, (share - 0.25) / 0.75);
      const ends = bundles.get(name);
      for (let i = 0; i < ends.length; i += 2) { // a path of all of them would be slower: it has to find where they cross
        pen.beginPath();
        pen.moveTo(from, ends[i]);
        pen.lineTo(to, ends[i + 1]);
        pen.stroke();
      }
    }
    pen.globalAlpha = 1;
  };
  return { add, stroke };
}

/** All lines, kept as a picture of its own: looking at one token and back must not draw them again. */
function paintAll(state) {
  const { data, map, choice } = state;
  const lines = bundle(state);
  let i = 0;
  for (let head = 0; head < data.names.length; head += 1) {
    for (let q = 0; q < data.queries.length; q += 1) {
      for (let k = 0; k < data.keys.length; k += 1, i += 1) {
        if (data.z[i] > 0 && data.z[i] >= choice.least) lines.add(head, q, k, data.z[i]);
      }
    }
  }
  lines.stroke(fitCanvas(state.layer, map.width, map.total));
}

/** The lines of one token, every one that is not under the cut. */
function paintOwn(state, pen, token, weights) {
  const lines = bundle(state);
  weights.forEach((found, head) => found.forEach(({ other, weight }) => {
    if (weight < state.data.cut) return;
    if (token.side === "query") lines.add(head, token.at, other, weight);
    else lines.add(head, other, token.at, weight);
  }));
  lines.stroke(pen);
}

/** A head's colour as letters: moved towards the text colour until it can be read. */
function letterColor(theme, head) {
  const { color } = palette(theme, head);
  for (let share = 0; share < 1; share += 0.1) {
    const mixed = mix(theme.text, color, share);
    if (contrast(mixed, theme.background) >= 4.6) return mixed;
  }
  return theme.text;
}

/** One column of tokens; `marked` are in the accent, `shares` (token → largest weight) tell the quiet from the loud. */
function paintColumn(state, pen, side, marked, shares) {
  const { map, theme } = state;
  const { count: total, pitch } = map[side];
  const every = Math.max(1, Math.ceil((map.type.size * 1.18) / pitch));
  const kept = [...marked, ...[...(shares?.keys() ?? [])].slice(0, 60)];
  const quiet = `${map.type.size}px ${theme.font}`;
  pen.textAlign = side === "query" ? "right" : "left";
  pen.textBaseline = "middle";
  const shown = shownLabels(total, every, kept);
  for (const at of shown) {
    const loud = marked.includes(at);
    pen.font = loud ? `700 ${quiet}` : quiet;
    pen.fillStyle = css(loud ? theme.accent : !shares || shares.get(at) >= 0.01 ? theme.text : theme.muted);
    pen.fillText(map.labels[side][at].text, side === "query" ? map.left : map.right, heightOf(map, { side, at }));
  }
  return shown;
}

/** The exact weights beside the tokens that have room: a column for each head, or the largest of many heads. */
function paintNumbers(state, pen, side, shown, weights) {
  const { map, theme, data } = state;
  pen.textAlign = "right";
  pen.font = `${map.type.size}px ${theme.font}`;
  const edge = side === "query" ? map.columns * map.number - 8 : map.width - 2;
  const several = data.names.length > 1;
  const visible = new Set(shown);
  const write = (column, head, at, weight) => {
    pen.fillStyle = css(weight < Math.max(data.cut, 0.0005) ? theme.muted : several ? letterColor(theme, head) : theme.text);
    pen.fillText(percent(weight), edge - (map.columns - 1 - column) * map.number, heightOf(map, { side, at }));
  };
  if (map.columns === weights.length) {
    weights.forEach((found, head) => found.forEach(({ other, weight }) => visible.has(other) && write(head, head, other, weight)));
    return;
  }
  const most = new Map();
  weights.forEach((found, head) => found.forEach(({ other, weight }) => {
    if (!(most.get(other)?.weight >= weight)) most.set(other, { head, weight });
  }));
  for (const [at, { head, weight }] of most) if (visible.has(at)) write(0, head, at, weight);
}

/** The largest weight of each token on the other side, over all heads, the heaviest first. */
function sharesOf(weights) {
  const shares = new Map();
  for (const found of weights) for (const { other, weight } of found) shares.set(other, Math.max(weight, shares.get(other) ?? 0));
  return new Map([...shares].sort((a, b) => b[1] - a[1]));
}

const lookedAt = (state) => state.locked ?? state.hover ?? state.cursor;

/** What changes without new data: one token's lines or all of them, the labels, the numbers, the words. */
function paintLook(state) {
  const { data, map, theme } = state;
  if (!map) return; // not painted yet
  const pen = fitCanvas(state.picture, map.width, map.total);
  const token = lookedAt(state);
  pen.font = map.caption;
  pen.fillStyle = css(theme.muted);
  pen.textBaseline = "alphabetic";
  pen.textAlign = "right";
  pen.fillText("from (query)", map.left, theme.rem);
  pen.textAlign = "left";
  pen.fillText("to (key)", map.right, theme.rem);
  if (!token) {
    pen.drawImage(state.layer, 0, 0, map.width, map.total);
    paintColumn(state, pen, "query", [data.row], null);
    paintColumn(state, pen, "key", [], null);
  } else {
    const weights = weightsOf(data, token);
    const other = token.side === "query" ? "key" : "query";
    paintOwn(state, pen, token, weights);
    paintColumn(state, pen, token.side, [token.at], null);
    const shown = paintColumn(state, pen, other, [], sharesOf(weights));
    paintNumbers(state, pen, other, shown, weights);
  }
  paintCursor(state, pen);
  say(state.status, inWords(state));
}

/** A box around the token that the arrow keys are at, and around the one whose lines are kept. */
function paintCursor(state, pen) {
  const { map, theme } = state;
  for (const [token, color, thick] of [[state.locked, theme.accent, 2.5], [state.cursor, theme.text, 2]]) {
    if (!token) continue;
    const width = map.labels[token.side][token.at].width + 10;
    const height = Math.max(map[token.side].pitch, map.type.size * 1.3);
    const x = token.side === "query" ? map.left - width + 5 : map.right - 5;
    pen.lineWidth = thick;
    pen.strokeStyle = css(color);
    pen.setLineDash(token === state.cursor && !isSame(token, state.locked) ? [4, 3] : []);
    pen.strokeRect(x, heightOf(map, token) - height / 2, width, height);
  }
  pen.setLineDash([]);
}

// ---- words ----

/** "layer 2, head 1 (blue)": the colour in words where there are several. */
function headInWords(state, head) {
  const { data, theme } = state;
  return data.names.length > 1 ? `${data.names[head]} (${palette(theme, head).name})` : data.names[head];
}

function tokenInWords(data, { side, at }) {
  return `${quoted(tokensOf(data, side)[at])} (${at})`;
}

/** A token's heaviest partners, head by head. */
function ownInWords(state, token) {
  const { data } = state;
  const other = token.side === "query" ? "key" : "query";
  const link = token.side === "query" ? "at" : "by";
  const several = data.names.length > 1;
  const parts = weightsOf(data, token).map((found, head) => {
    const named = found.slice(0, several ? 1 : MOST_WORDS).map(({ other: at, weight }, i) =>
      `${several || i ? percent(weight) : exactly(weight)} ${link} ${tokenInWords(data, { side: other, at })}`);
    return `${several ? `${headInWords(state, head)} ` : ""}${named.length ? named.join(", ") : "cannot look there"}`;
  });
  return `${tokenInWords(data, token)} ${token.side === "query" ? "looks" : "is looked at"}${several ? ": " : " "}${parts.join("; ")}.`;
}

/** One query and one key: the exact weight of every head. */
function pairInWords(state, q, k) {
  const { data } = state;
  const parts = data.names.map((_, head) => {
    const words = exactly(weightAt(data, head, q, k));
    return data.names.length > 1 ? `${headInWords(state, head)} ${words}` : words;
  });
  return `${tokenInWords(data, { side: "query", at: q })} → ${tokenInWords(data, { side: "key", at: k })}: ${parts.join("; ")}`;
}

function inWords(state) {
  const { data, locked } = state;
  const other = state.hover ?? state.cursor;
  if (locked && other && other.side !== locked.side) {
    const [q, k] = locked.side === "query" ? [locked.at, other.at] : [other.at, locked.at];
    return pairInWords(state, q, k);
  }
  if (locked) return `${ownInWords(state, locked)} Its lines are kept: Escape lets go.`;
  if (other) return ownInWords(state, other);
  return `Row ${data.row}, ${quoted(data.queries[data.row])}, is chosen. Point at a token for its lines alone; click keeps them.`;
}

const LARGEST_ONLY = " Beside a token stands the largest of its weights, in the colour of its head.";

/** What the strength of a line means. */
function strengthInWords({ log = false, per = "one" } = {}) {
  const full = { one: "100%", row: "the largest weight of its query", head: "the largest weight of its head" }[per];
  return `A stronger line is a larger weight: ${log ? "logarithmic, four decades up to" : "in proportion, up to"} ${full}.`;
}

function paintHeads(state) {
  const { data, theme } = state;
  state.heads.hidden = data.names.length < 2; // the title names it
  if (unchanged(state, "listed", [data.names, theme])) return;
  state.heads.replaceChildren(...data.names.map((name, head) => {
    const { color, name: colorName } = palette(theme, head);
    const [item, swatch, words, inColor] = ["li", "span", "span", "small"].map((tag) => document.createElement(tag));
    swatch.className = "swatch";
    swatch.style.background = css(color);
    words.textContent = name;
    inColor.textContent = data.names.length > 1 ? colorName : "";
    item.append(swatch, words, inColor);
    return item;
  }));
}

function paintLines(state) {
  const { root, data } = state;
  if (!state.width || !data.queries.length || !data.keys.length) return;
  const began = performance.now();
  const theme = (state.theme = readTheme(root));
  const size = [state.width, window.devicePixelRatio, state.fonts];
  if (!unchanged(state, "before", [theme, size, data.names.length, data.queries, data.keys, data.z, data.cut, data.scale])) {
    state.map = planLines(state.picture.getContext("2d"), data, state.width, theme);
    const cells = data.queries.length * data.keys.length;
    state.full = data.names.map((_, head) =>
      fullColor(data.z.subarray(head * cells, (head + 1) * cells), data.queries.length, data.scale?.per ?? "one"));
    state.choice = choiceOfLines(data);
    paintAll(state);
    root.style.setProperty("--muted", css(theme.muted));
  }
  say(state.title, data.title);
  state.title.hidden = !data.title;
  paintHeads(state);
  const largestOnly = state.map.columns < data.names.length;
  say(state.meaning, `${strengthInWords(data.scale ?? {})}${largestOnly ? LARGEST_ONLY : ""}`);
  const leftOut = leftOutInWords(state.choice, data.cut);
  say(state.note, leftOut);
  state.note.hidden = !leftOut;
  set(state.picture, "aria-label", `Lines${data.title ? `, ${data.title}` : ""}: from ${data.queries.length} query tokens on the left ` +
    `to ${data.keys.length} key tokens on the right. Up and down move, left and right change the column, ` +
    "Enter keeps a token's lines, Escape lets go.");
  paintLook(state);
  painted(state, { row: data.row, title: data.title, drawn: state.choice.drawn, paintMs: (performance.now() - began).toFixed(1) });
}

// ---- looking and choosing ----

/** The token under the pointer; null between the columns and above them. */
function tokenAt(state, event) {
  const { map } = state;
  const side = event.offsetX <= map.left + 8 ? "query" : event.offsetX >= map.right - 8 ? "key" : null;
  if (!side) return null;
  const at = Math.floor((event.offsetY - map.top - map[side].top) / map[side].pitch);
  return at >= 0 && at < map[side].count ? { side, at } : null;
}

function lookAt(state, hover) {
  if (hover ? isSame(hover, state.hover) : !state.hover) return;
  state.hover = hover;
  paintLook(state);
}

/** Keeps a token's lines, or lets go of them; a query becomes the chosen row of the page. */
function lock(state, token) {
  if (!token) return;
  const { data } = state;
  state.locked = isSame(token, state.locked) ? null : token;
  const chooses = state.locked && token.side === "query" && token.at !== data.row;
  if (chooses) data.row = token.at; // shown at once; the page's answer paints it again
  paintLook(state);
  if (chooses) state.choose({ token: token.at });
}

function letGo(state) {
  Object.assign(state, { locked: null, cursor: null, hover: null });
  paintLook(state);
}

function onLinesKey(state, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    event.preventDefault();
    letGo(state);
    return;
  }
  const { data } = state;
  const { side, at } = state.cursor ?? state.locked ?? { side: "query", at: data.row };
  const goal = {
    ArrowUp: [side, at - 1], ArrowDown: [side, at + 1], ArrowLeft: ["query", at], ArrowRight: ["key", at],
    Home: [side, 0], End: [side, Infinity], Enter: [side, at], " ": [side, at],
  }[event.key];
  if (!goal) return;
  event.preventDefault();
  state.hover = null;
  state.cursor = { side: goal[0], at: clamp(goal[1], 0, tokensOf(data, goal[0]).length - 1) };
  if (event.key === "Enter" || event.key === " ") lock(state, state.cursor);
  else paintLook(state);
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".lines", makeLines, paintLines);
  state.runs += 1;
  const another = state.data && !(same(state.data.queries, data.queries) && same(state.data.keys, data.keys));
  if (another) Object.assign(state, { locked: null, cursor: null, hover: null }); // another text
  else if (state.locked?.side === "query" && state.data.row !== data.row && state.locked.at !== data.row) state.locked = null;
  state.data = { ...data, cut: data.cut ?? 0, z: numbers(data.z) };
  state.choose = (value) => setTriggerValue("choose", value);
  const { picture } = state;
  picture.onmousemove = (event) => lookAt(state, tokenAt(state, event));
  picture.onmouseleave = () => lookAt(state, null);
  picture.onclick = (event) => lock(state, tokenAt(state, event));
  picture.onkeydown = (event) => onLinesKey(state, event);
  picture.onfocus = () => {
    if (!picture.matches(":focus-visible")) return;
    state.cursor ??= { side: "query", at: data.row };
    paintLook(state);
  };
  picture.onblur = () => {
    state.cursor = null;
    paintLook(state);
  };
  paintLines(state);
  return unmount(state);
}
