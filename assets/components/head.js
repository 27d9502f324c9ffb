// One head: who looks at whom as a heat map, and the chosen row as bars.
// data: {z (query tokens × key tokens) float32 with −1 for gaps, queries, keys, row, uniform, title}.
// Trigger "choose": {token} (the query).

const SIDE = 290; // the least width the bars need beside the heat map …
const SHARE = 0.33; // … and their share of a wide page
const MOST_BARS = 12;
const LARGEST_CELL = 48;
const TALLEST_MAP = 560;

function makeHead(root) {
  const find = (name) => root.querySelector(name);
  return {
    picture: find("canvas.picture"), mark: find("canvas.mark"), status: find(".status"), tip: find(".tip"),
    title: find(".title"), heat: find(".heat"), scale: find(".scale"), cannot: root.querySelectorAll(".gaps"),
    heading: find(".heading"), side: find(".side"), nolean: find(".nolean"), even: find(".even"),
    bars: find(".bars"), ends: find(".ends"), more: find(".more"),
    cursor: null, hover: null, image: null, choose: () => {},
  };
}

const weightAt = (data, [q, k]) => data.z[q * data.keys.length + k];

// ---- where things lie ----

/** Letters for a row of labels `pitch` pixels apart: their size, and how many labels one shown label takes. */
function letters(pitch, rem) {
  const size = Math.round(clamp(pitch * 0.8, rem * 0.88, rem * 1.06));
  return { size, every: Math.max(1, Math.ceil((size * 1.18) / pitch)) };
}

/** Each token as it fits beside or above the map; repeated tokens are measured once. */
function fitLabels(pen, tokens, room) {
  const known = new Map();
  return tokens.map((token) => {
    if (!known.has(token)) {
      const text = shorten(pen, oneLine(token), room);
      known.set(token, { text, width: pen.measureText(text).width });
    }
    return known.get(token);
  });
}

const widest = (labels) => labels.reduce((most, label) => Math.max(most, label.width), 0);

/** Sizes of the heat map inside `width` pixels: margins for the labels, then cells as large as fit. */
function planMap(pen, data, width, theme) {
  const [rows, columns] = [data.queries.length, data.keys.length];
  const setFont = (size) => (pen.font = `700 ${size}px ${theme.font}`); // bold is the widest a label gets
  setFont(theme.rem * 1.06);
  const rowLabels = fitLabels(pen, data.queries, Math.min(width * 0.24, 170));
  const caption = `${Math.round(theme.rem * 0.95)}px ${theme.font}`;
  pen.font = caption;
  const from = "from ↓ (query)";
  const x0 = Math.ceil(Math.max(widest(rowLabels), pen.measureText(from).width) + 10);
  const room = width - x0 - 3;
  let cellWidth = Math.min(LARGEST_CELL, room / columns);
  // Slanted labels read better than upright ones, but lean out over the right edge and need wider columns.
  const slanted = cellWidth >= 25;
  const type = letters(cellWidth, theme.rem);
  setFont(type.size);
  const columnLabels = fitLabels(pen, data.keys, slanted ? 130 : 120);
  if (slanted) {
    const lean = columnLabels.map((label, k) => label.width * 0.72 + 6 - (columns - k - 0.5) * cellWidth);
    cellWidth = Math.min(cellWidth, (room - Math.max(0, ...lean)) / columns);
  }
  const cellHeight = clamp(cellWidth, Math.min(24, 480 / rows), TALLEST_MAP / rows);
  const sharp = (size) => (size >= 3 ? Math.floor(size) : size);
  const [w, h] = [sharp(cellWidth), sharp(cellHeight)];
  const long = widest(columnLabels);
  const y0 = Math.ceil(theme.rem * 1.4 + (slanted ? long * 0.72 + type.size * 0.7 : long) + 10);
  const right = slanted ? Math.max(3, ...columnLabels.map((label, k) => label.width * 0.72 + 8 - (columns - k - 0.5) * w)) : 3;
  const least = Math.min(width, 20 * theme.rem); // one cell still has room for its legend and status
  return { rows, columns, rowLabels, columnLabels, slanted, caption, from, x0, y0, w, h,
           rowType: letters(h, theme.rem), columnType: letters(w, theme.rem),
           width: Math.ceil(Math.max(x0 + columns * w + right, least)), height: Math.ceil(y0 + rows * h + 3) };
}

// ---- painting the map ----

/** The weights as an image with one pixel a cell, or the largest of each block where there are more cells than pixels. */
function heatImage(data, map, theme) {
  const ratio = window.devicePixelRatio || 1;
  const [down, across] = [map.h, map.w].map((size) => Math.max(1, Math.ceil(1 / (size * ratio))));
  const [height, width] = [Math.ceil(map.rows / down), Math.ceil(map.columns / across)];
  const most = new Float32Array(width * height).fill(GAP);
  for (let q = 0, i = 0; q < map.rows; q += 1) {
    const line = Math.floor(q / down) * width;
    for (let k = 0; k < map.columns; k += 1, i += 1) {
      const at = line + Math.floor(k / across);
      if (data.z[i] > most[at]) most[at] = data.z[i];
    }
  }
  const image = new ImageData(width, height);
  const pixels = image.data;
  for (let at = 0; at < most.length; at += 1) {
    if (most[at] < 0) continue; // a gap stays transparent
    const color = Math.round(Math.min(most[at], 1) * 255) * 3;
    pixels[at * 4] = theme.ramp[color];
    pixels[at * 4 + 1] = theme.ramp[color + 1];
    pixels[at * 4 + 2] = theme.ramp[color + 2];
    pixels[at * 4 + 3] = 255;
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { canvas, width: width * across * map.w, height: height * down * map.h };
}

/** Thin slanted lines, quieter than any weight: here the query cannot look. */
function hatch(pen, x, y, width, height, theme) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, width, height);
  pen.clip();
  pen.strokeStyle = css(mix(theme.text, theme.background, 0.09));
  pen.lineWidth = 1;
  pen.beginPath();
  for (let at = -height; at < width; at += 9) {
    pen.moveTo(x + at, y + height);
    pen.lineTo(x + at + height, y);
  }
  pen.stroke();
  pen.restore();
}

function paintCells(state, pen) {
  const { data, map, theme } = state;
  const [width, height] = [map.columns * map.w, map.rows * map.h];
  hatch(pen, map.x0, map.y0, width, height, theme);
  const image = heatImage(data, map, theme);
  pen.save();
  pen.beginPath();
  pen.rect(map.x0, map.y0, width, height);
  pen.clip();
  pen.imageSmoothingEnabled = false;
  pen.drawImage(image.canvas, map.x0, map.y0, image.width, image.height);
  pen.fillStyle = css(theme.background);
  if (map.w >= 9) for (let k = 1; k < map.columns; k += 1) pen.fillRect(map.x0 + k * map.w - 0.5, map.y0, 1, height);
  if (map.h >= 9) for (let q = 1; q < map.rows; q += 1) pen.fillRect(map.x0, map.y0 + q * map.h - 0.5, width, 1);
  pen.restore();
  pen.strokeStyle = css(theme.line);
  pen.lineWidth = 1;
  pen.strokeRect(map.x0 - 0.5, map.y0 - 0.5, width + 1, height + 1);
}

/** The labels that have room: every n-th, and always `kept`, which pushes its neighbours away. */
function shownLabels(total, every, kept) {
  const shown = [];
  for (let i = 0; i < total; i += every) if (kept === null || i === kept || Math.abs(i - kept) >= every) shown.push(i);
  if (kept !== null && kept % every) shown.push(kept);
  return shown;
}

function paintLabels(state, pen) {
  const { data, map, theme } = state;
  const quiet = `${map.rowType.size}px ${theme.font}`;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const q of shownLabels(map.rows, map.rowType.every, data.row)) {
    pen.font = q === data.row ? `700 ${quiet}` : quiet;
    pen.fillStyle = css(q === data.row ? theme.accent : theme.text);
    pen.fillText(map.rowLabels[q].text, map.x0 - 8, map.y0 + (q + 0.5) * map.h);
  }
  pen.font = `${map.columnType.size}px ${theme.font}`;
  pen.fillStyle = css(theme.text);
  pen.textAlign = "left";
  for (const k of shownLabels(map.columns, map.columnType.every, null)) {
    const label = map.columnLabels[k];
    const upright = label.width <= map.columnType.size * 0.6; // a comma on its side is hard to recognise
    pen.save();
    pen.translate(map.x0 + (k + 0.5) * map.w - (upright ? label.width / 2 : 0), map.y0 - (upright ? 10 : 7));
    if (!upright) pen.rotate(map.slanted ? -Math.PI / 4 : -Math.PI / 2);
    pen.fillText(label.text, 0, 0);
    pen.restore();
  }
  pen.font = map.caption;
  pen.fillStyle = css(theme.muted);
  pen.fillText("to → (key)", map.x0, theme.rem * 0.6);
  pen.textAlign = "right";
  pen.fillText(map.from, map.x0 - 8, map.y0 - theme.rem * 0.95);
}

/** What changes without new data: the chosen row and the cell that is looked at. */
function paintMarks(state) {
  const { data, map, theme } = state;
  const pen = fitCanvas(state.mark, map.width, map.height);
  const thin = map.h < 7; // a thick frame would cover the row itself
  const out = thin ? 2.5 : 1;
  frame(pen, map.x0 - out, map.y0 + data.row * map.h - out, map.columns * map.w + 2 * out, map.h + 2 * out - (thin ? 0 : 1),
        theme.accent, thin ? 1.5 : 3, theme.background, thin ? 0 : 3);
  const looked = state.hover ?? state.cursor;
  if (looked) {
    const [q, k] = looked;
    const [w, h] = [Math.max(map.w, 7), Math.max(map.h, 7)]; // a speck gets a box that can be seen
    frame(pen, map.x0 + (k + 0.5) * map.w - w / 2 - 0.5, map.y0 + (q + 0.5) * map.h - h / 2 - 0.5, w, h, theme.text, 2, theme.background);
  }
  say(state.status, looked ? cellInWords(data, looked) : restingWords(data));
}

function cellInWords(data, [q, k]) {
  return `${quoted(data.queries[q])} → ${quoted(data.keys[k])}: ${exactly(weightAt(data, [q, k]))}`;
}

function restingWords(data) {
  return `Row ${data.row}, ${quoted(data.queries[data.row])}, is chosen. Point at a cell for its weight; click to choose its row.`;
}

// ---- the bars ----

/** The chosen row's heaviest keys as {place, token, weight}; gaps are no keys. */
function barsFromMap(data) {
  const keys = [];
  for (let k = 0; k < data.keys.length; k += 1) {
    const weight = weightAt(data, [data.row, k]);
    if (weight >= 0) keys.push({ place: k, token: data.keys[k], weight });
  }
  keys.sort((a, b) => b.weight - a.weight || a.place - b.place);
  return {
    query: data.queries[data.row], place: data.row, shown: keys.slice(0, MOST_BARS), more: Math.max(0, keys.length - MOST_BARS),
    rest: keys.slice(MOST_BARS).reduce((sum, key) => sum + key.weight, 0),
  };
}

/** A round end for the bars' axis that holds the longest bar and the dashed line. */
function axisEnd(most) {
  return [0.05, 0.1, 0.25, 0.5, 1].find((end) => most <= end * 1.0001) ?? 1;
}

function makeBar() {
  const node = document.createElement("li");
  node.className = "bar";
  const make = (tag, name, parent) => {
    const child = parent.appendChild(document.createElement(tag));
    if (name) child.className = name;
    return child;
  };
  const key = make("span", "key", node);
  const token = make("bdi", "token", key);
  const place = make("small", "place", key);
  const track = make("span", "track", node);
  track.setAttribute("aria-hidden", "true");
  const fill = make("span", "fill", track);
  const value = make("span", "value", node);
  return { node, token, place, fill, value };
}

function keepBars(state, wanted) {
  state.bar ??= [];
  while (state.bar.length > wanted) state.bar.pop().node.remove();
  while (state.bar.length < wanted) {
    const bar = makeBar();
    state.bar.push(bar);
    state.bars.append(bar.node);
  }
}

/** Writes the words of the dashed line above it, moved to the left where they would leave the component. */
function keepInside(node, left, width) {
  node.style.left = `${clamp(left, 0, Math.max(0, width - node.offsetWidth))}px`;
}

function paintBars(state) {
  const { data, theme } = state;
  // Where a cell of the map stands for several, the page sends the bars of the one exact row.
  const { query, place, shown, more, rest } = data.bars?.row === data.row ? data.bars : barsFromMap(data);
  const end = axisEnd(Math.max(shown[0]?.weight ?? 0, data.uniform));
  keepBars(state, shown.length);
  state.bar.forEach((bar, i) => {
    const { token, weight } = shown[i];
    say(bar.token, oneLine(token));
    bar.token.title = token;
    say(bar.place, String(shown[i].place));
    say(bar.value, percent(weight));
    bar.fill.style.width = `${clamp(weight / end, 0, 1) * 100}%`;
    bar.node.dataset.key = shown[i].place;
    bar.node.dataset.weight = weight;
  });
  const pen = state.picture.getContext("2d");
  pen.font = `${theme.rem * 1.05}px ${theme.font}`;
  const long = shown.reduce((most, bar) => Math.max(most, pen.measureText(oneLine(bar.token)).width), 0);
  const most = shown.reduce((largest, bar) => Math.max(largest, bar.place), 0);
  const digits = String(most).length * theme.rem * 0.5 + theme.rem * 0.5;
  const label = Math.ceil(clamp(long + digits, 48, Math.min(190, state.side.clientWidth * 0.42)));
  state.side.style.setProperty("--label", `${label}px`);
  state.side.style.setProperty("--even", clamp(data.uniform / end, 0, 1));
  state.even.hidden = state.nolean.hidden = !(data.uniform > 0);
  say(state.heading, `${quoted(query)} (${place}) looks at`);
  say(state.nolean.firstElementChild, `1/${count(Math.round(1 / data.uniform))}: no preference`);
  keepInside(state.nolean.firstElementChild, state.even.offsetLeft, state.side.clientWidth);
  say(state.ends.firstElementChild, "0");
  say(state.ends.lastElementChild, `${end * 100}%`);
  state.more.hidden = !more;
  say(state.more, more ? `and ${count(more)} more, together ${percent(rest)}` : "");
}

// ---- the whole ----

/** Bars beside the map keep both on one screen; below it where the cells would become too small for that. */
function standsBeside(data, width, beside) {
  return width >= 1000 || (width >= 700 && (beside - 120) / data.keys.length >= 12);
}

function paintFrame(state) {
  const { root, data, theme } = state;
  for (const name of ["muted", "line"]) root.style.setProperty(`--${name}`, css(theme[name]));
  root.style.setProperty("--faint", css(mix(theme.text, theme.background, 0.07)));
  state.scale.style.background = `linear-gradient(to right, ${theme.stops.join(", ")})`;
  const gaps = data.z.some((weight) => weight < 0);
  state.cannot.forEach((node) => (node.hidden = !gaps));
  say(state.title, data.title);
  state.title.hidden = !data.title;
  state.picture.setAttribute("aria-label", `Heat map${data.title ? `, ${data.title}` : ""}: ${data.queries.length} query tokens look at ` +
    `${data.keys.length} key tokens. Arrow keys move from cell to cell, Enter chooses the row, Escape lets go.`);
}

function paintHead(state) {
  const { root, data } = state;
  state.width = root.clientWidth;
  if (!state.width || !data.queries.length) return;
  const began = performance.now();
  state.theme = readTheme(root);
  const pen = state.picture.getContext("2d");
  const beside = state.width - Math.max(SIDE, SHARE * state.width) - 2 * state.theme.rem;
  const wide = standsBeside(data, state.width, beside);
  root.classList.toggle("wide", wide);
  state.map = planMap(pen, data, wide ? beside : state.width, state.theme);
  paintFrame(state);
  const { map } = state;
  const fresh = fitCanvas(state.picture, map.width, map.height);
  paintCells(state, fresh);
  paintLabels(state, fresh);
  state.heat.style.width = `${map.width}px`;
  paintMarks(state);
  paintBars(state);
  painted(state, { row: data.row, title: data.title, paintMs: (performance.now() - began).toFixed(1) });
}

// ---- looking and choosing ----

/** The cell under the pointer, or null beside the map. */
function cellAt(state, event) {
  const { map } = state;
  const q = Math.floor((event.offsetY - map.y0) / map.h);
  const k = Math.floor((event.offsetX - map.x0) / map.w);
  return q >= 0 && q < map.rows && k >= 0 && k < map.columns ? [q, k] : null;
}

/** The row under the pointer: of a cell, or of a label. */
function rowAt(state, event) {
  const { map } = state;
  const q = Math.floor((event.offsetY - map.y0) / map.h);
  return q >= 0 && q < map.rows && event.offsetX < map.x0 + map.columns * map.w ? q : null;
}

/** The full name of a row or column label that had to be cut or left out. */
function labelAt(state, event) {
  const { map, data } = state;
  const q = rowAt(state, event);
  if (q !== null && event.offsetX < map.x0) return `${quoted(data.queries[q])}, token ${q}`;
  // A slanted label leans to the right: go back along its slope to the column it belongs to.
  const rise = map.slanted ? Math.max(0, map.y0 - event.offsetY) : 0;
  const k = Math.floor((event.offsetX - rise - map.x0) / map.w);
  const above = event.offsetY < map.y0 && event.offsetY > state.theme.rem * 1.4;
  return above && k >= 0 && k < map.columns ? `${quoted(data.keys[k])}, token ${k}` : null;
}

/** The bubble near the pointer, kept inside the component. */
function moveTip(state, event, text) {
  const { tip, map } = state;
  tip.hidden = !text;
  if (!text) return;
  say(tip, text);
  const left = clamp(event.offsetX + 14, 0, Math.max(0, state.width - tip.offsetWidth));
  const over = event.offsetY - tip.offsetHeight - 14;
  tip.style.transform = `translate(${left}px, ${over >= 0 ? over : Math.min(event.offsetY + 22, map.height)}px)`;
}

function onMapMove(state, event) {
  const cell = cellAt(state, event);
  if (String(cell) !== String(state.hover)) {
    state.hover = cell;
    paintMarks(state);
  }
  moveTip(state, event, cell ? cellInWords(state.data, cell) : labelAt(state, event));
}

function letGo(state) {
  state.hover = null;
  state.tip.hidden = true;
  paintMarks(state);
}

function chooseRow(state, token) {
  if (token === null || token === state.data.row) return;
  state.data.row = token; // shown at once, the 1/n line too; the page's answer paints it again
  const { shown, more } = barsFromMap(state.data);
  const visible = shown.length + more;
  if (visible) state.data.uniform = 1 / visible;
  paintHead(state);
  state.choose({ token });
}

/** Where the arrows begin: the heaviest key of the chosen row. */
const firstCell = (data) => [data.row, barsFromMap(data).shown[0]?.place ?? 0];

function onMapKey(state, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { data, map } = state;
  const [q, k] = state.cursor ?? firstCell(data);
  const goal = {
    ArrowLeft: [q, k - 1], ArrowRight: [q, k + 1], ArrowUp: [q - 1, k], ArrowDown: [q + 1, k],
    Home: [q, 0], End: [q, map.columns - 1], Enter: [q, k], " ": [q, k], Escape: null,
  }[event.key];
  if (goal === undefined) return;
  event.preventDefault();
  state.hover = null;
  state.tip.hidden = true;
  state.cursor = goal && [clamp(goal[0], 0, map.rows - 1), clamp(goal[1], 0, map.columns - 1)];
  paintMarks(state);
  if (event.key === "Enter" || event.key === " ") chooseRow(state, q);
}

function onMapClick(state, event) {
  const cell = cellAt(state, event);
  if (cell) state.cursor = cell;
  chooseRow(state, rowAt(state, event));
  paintMarks(state);
}

/** A bar under the pointer shows where it is in the map. */
function onBarOver(state, event) {
  const key = event.target.closest?.(".bar")?.dataset.key;
  state.hover = key === undefined ? null : [state.data.row, Number(key)];
  paintMarks(state);
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".head", makeHead, paintHead);
  state.runs += 1;
  state.data = { ...data, z: numbers(data.z) };
  const { cursor, picture, bars } = state;
  if (cursor && (cursor[0] >= data.queries.length || cursor[1] >= data.keys.length)) state.cursor = null; // another text
  state.hover = null;
  state.choose = (value) => setTriggerValue("choose", value);
  picture.onmousemove = (event) => onMapMove(state, event);
  picture.onmouseleave = () => letGo(state);
  picture.onclick = (event) => onMapClick(state, event);
  picture.onkeydown = (event) => onMapKey(state, event);
  picture.onfocus = () => {
    if (!picture.matches(":focus-visible")) return;
    state.cursor ??= firstCell(state.data);
    paintMarks(state);
  };
  picture.onblur = () => {
    state.cursor = null;
    letGo(state);
  };
  bars.onmouseover = (event) => onBarOver(state, event);
  bars.onmouseleave = () => letGo(state);
  paintHead(state);
  return unmount(state);
}
