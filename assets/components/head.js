// One head: who looks at whom as a heat map, and the chosen row as bars.
// data: {z (query tokens × key tokens) float32 with −1 for gaps, queries, keys, row, also?: [further rows], uniform, title,
//        caption?, scale?: {log, per, cut}, side?: false (no bars), bars? (of one exact row),
//        signed?: true (z is a difference, −1 to 1, with −2 for gaps)}.
// Trigger "choose": {token} (the query).

const SIDE = 290; // the least width the bars need beside the heat map …
const SHARE = 0.33; // … and their share of a wide page
const MOST_BARS = 12;
const WIDEST_SIDE = 44; // rem, and the bars' columns, as in head.css
const [NUMBER, BAR_GAP] = [4.4, 0.6];
const GAP_OF_DIFFERENCE = -2; // a difference can be −1
const LARGEST_CELL = 48;
const TALLEST_MAP = 560;

function makeHead(root) {
  const find = (name) => root.querySelector(name);
  return {
    picture: find("canvas.picture"), mark: find("canvas.mark"), status: find(".status"), tip: find(".tip"),
    title: find(".title"), heat: find(".heat"), legend: find(".legend"), scale: find(".scale"), ticks: find(".ticks"),
    meaning: find(".meaning"), blank: find(".blank"), cannot: root.querySelectorAll(".gaps"), caption: find(".caption"),
    heading: find(".heading"), side: find(".side"), nolean: find(".nolean"), even: find(".even"),
    bars: find(".bars"), ends: find(".ends"), more: find(".more"),
    cursor: null, hover: null, image: null, choose: () => {},
  };
}

const weightAt = (data, [q, k]) => data.z[q * data.keys.length + k];
const isGap = (data, weight) => weight < (data.signed ? -1.5 : -0.5);
const cutOf = (data) => data.scale?.cut ?? 0;
const isBlank = (data, weight) => Math.abs(weight) < cutOf(data);

// ---- where things lie ----

/** Sizes of the heat map inside `width` pixels: margins for the labels, then cells as large as fit. */
function planMap(pen, data, width, theme) {
  const [rows, columns] = [data.queries.length, data.keys.length];
  const setFont = (size) => (pen.font = `700 ${size}px ${theme.font}`); // bold is the widest a label gets
  setFont(theme.rem * 1.06);
  const rowLabels = fitLabels(pen, data.queries, Math.min(width * 0.24, 170));
  const caption = `${Math.round(theme.rem * 0.95)}px ${theme.font}`;
  pen.font = caption;
  const [from, to] = width < 480 ? ["from ↓", "to →"] : ["from ↓ (query)", "to → (key)"];
  const x0 = Math.ceil(Math.max(widest(rowLabels) + 10, pen.measureText(from).width + 18)); // a label above leans over
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
  return { rows, columns, rowLabels, columnLabels, slanted, caption, from, to, x0, y0, w, h,
           rowType: letters(h, theme.rem), columnType: letters(w, theme.rem),
           width: Math.ceil(Math.max(x0 + columns * w + right, least)), height: Math.ceil(y0 + rows * h + 3) };
}

// ---- painting the map ----

/** One value a pixel: the cells themselves, or the furthest from 0 of each block where there are more cells than pixels. */
function pooled(data, map, [height, width], [down, across]) {
  if (down === 1 && across === 1) return data.z;
  const most = new Float32Array(width * height).fill(GAP_OF_DIFFERENCE);
  for (let q = 0, i = 0; q < map.rows; q += 1) {
    const line = Math.floor(q / down) * width;
    for (let k = 0; k < map.columns; k += 1, i += 1) {
      if (isGap(data, data.z[i])) continue;
      const at = line + Math.floor(k / across);
      if (most[at] === GAP_OF_DIFFERENCE || Math.abs(data.z[i]) > Math.abs(most[at])) most[at] = data.z[i];
    }
  }
  return most;
}

/** The weights as an image, at most one pixel a cell. */
function heatImage(data, map, theme) {
  const ratio = window.devicePixelRatio || 1;
  const blocks = [map.h, map.w].map((size) => Math.max(1, Math.ceil(1 / (size * ratio))));
  const [height, width] = [Math.ceil(map.rows / blocks[0]), Math.ceil(map.columns / blocks[1])];
  const most = pooled(data, map, [height, width], blocks);
  const colors = data.signed ? theme.difference : theme.ramp;
  const log = Boolean(data.scale?.log);
  const image = new ImageData(width, height);
  const pixels = image.data;
  for (let at = 0; at < most.length; at += 1) {
    const weight = most[at];
    if (isGap(data, weight)) continue; // stays transparent
    const blank = isBlank(data, weight);
    const full = map.full[Math.floor(at / width) * blocks[0]];
    const shade = data.signed ? clamp((weight / full + 1) / 2, 0, 1) : strength(weight, full, log);
    const place = Math.round(shade * 255) * 3;
    for (let part = 0; part < 3; part += 1) pixels[at * 4 + part] = blank ? theme.background[part] : colors[place + part];
    pixels[at * 4 + 3] = 255;
  }
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { canvas, width: width * blocks[1] * map.w, height: height * blocks[0] * map.h };
}

/** What a full colour stands for in each row; of a difference, its largest amount in either direction. */
function fullColors(data) {
  const rows = data.queries.length;
  if (!data.signed) return fullColor(data.z, rows, data.scale?.per ?? "one");
  const most = data.z.reduce((largest, value) => (isGap(data, value) ? largest : Math.max(largest, Math.abs(value))), 0);
  return new Float32Array(rows).fill(most || 1);
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

function paintLabels(state, pen) {
  const { data, map, theme } = state;
  const quiet = `${map.rowType.size}px ${theme.font}`;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  const also = new Set(data.also);
  for (const q of shownLabels(map.rows, map.rowType.every, [data.row, ...also])) {
    pen.font = q === data.row ? `700 ${quiet}` : quiet;
    pen.fillStyle = css(q === data.row || also.has(q) ? theme.accent : theme.text);
    pen.fillText(map.rowLabels[q].text, map.x0 - 8, map.y0 + (q + 0.5) * map.h);
  }
  pen.font = `${map.columnType.size}px ${theme.font}`;
  pen.fillStyle = css(theme.text);
  pen.textAlign = "left";
  for (const k of shownLabels(map.columns, map.columnType.every, [])) {
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
  pen.fillText(map.to, map.x0, theme.rem * 0.6);
  pen.textAlign = "right";
  pen.fillText(map.from, map.x0 - 16, map.y0 - theme.rem * 0.95);
}

/** What changes without new data: the chosen row and the cell that is looked at. */
function paintMarks(state) {
  const { data, map, theme } = state;
  const pen = fitCanvas(state.mark, map.width, map.height);
  const thin = map.h < 7; // a thick frame would cover the row itself
  const out = thin ? 2.5 : 1;
  for (const q of data.also) {
    frame(pen, map.x0 - 1, map.y0 + q * map.h - 0.5, map.columns * map.w + 2, map.h, theme.accent, 1.5, theme.background, 0);
  }
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

/** A number with its sign in front, a true minus too. */
const signedWith = (write, value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${write(Math.abs(value))}`;

/** 0.58123 → "58.1% (0.58123)", a difference with its sign; a gap and a blank say what they are. */
function valueInWords(data, weight) {
  if (isGap(data, weight)) return "cannot look there";
  const words = data.signed ? `difference ${signedWith(percent, weight)} (${signedWith((w) => w.toFixed(5), weight)})` : exactly(weight);
  return isBlank(data, weight) ? `${words}, under ${short(cutOf(data))}: left blank` : words;
}

function cellInWords(data, [q, k]) {
  return `${quoted(data.queries[q])} → ${quoted(data.keys[k])}: ${valueInWords(data, weightAt(data, [q, k]))}`;
}

function restingWords(data) {
  const chosen = data.also.length ? `Rows ${listed([data.row, ...data.also])} are chosen.`
    : `Row ${data.row}, ${quoted(data.queries[data.row])}, is chosen.`;
  return `${chosen} Point at a cell for its ${data.signed ? "value" : "weight"}; click to choose its row.`;
}

// ---- the legend ----

const TICKS = { one: "weight", row: "of the row's largest weight", head: "weight" };

/** What the colours mean: their name, the stops of the strip and the numbers under it as [place 0 to 1, words]. */
function legendOf(data, map, theme) {
  const { log = false, per = "one" } = data.scale ?? {};
  const full = per === "row" && !data.signed ? 1 : map.full[0];
  if (data.signed) {
    return { name: "difference of the weights", stops: theme.lessMore, ticks: [[0, `−${short(full)}`], [0.5, "0"], [1, `+${short(full)}`]] };
  }
  const name = `${TICKS[per]}${log ? ", logarithmic" : ""}${per === "head" ? ", up to the largest here" : ""}`;
  const ends = [[0, "0"], [1, short(full)]];
  const decades = Array.from({ length: DECADES + 1 }, (_, i) => [i / DECADES, short(full * 10 ** (i - DECADES))]);
  decades[0][1] = `≤ ${decades[0][1]}`;
  return { name, stops: theme.stops, ticks: log ? decades : ends };
}

function paintLegend(state) {
  const { data, map, theme } = state;
  const { name, stops, ticks } = legendOf(data, map, theme);
  say(state.meaning, name);
  state.scale.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  state.scale.style.width = `${ticks.length > 3 ? 17 : ticks.length > 2 ? 11 : 8}rem`;
  if (!unchanged(state, "ticked", [ticks])) {
    state.ticks.replaceChildren(...ticks.map(([place, words]) => {
      const tick = document.createElement("span");
      tick.textContent = words;
      tick.style.left = `${place * 100}%`;
      return tick;
    }));
  }
  state.cannot.forEach((node) => (node.hidden = !state.gaps));
  say(state.blank, cutOf(data) ? `blank: under ${short(cutOf(data))}` : "");
  state.blank.hidden = !cutOf(data);
  say(state.caption, data.caption || "");
  state.caption.hidden = !data.caption;
}

// ---- the bars ----

/** The chosen row's heaviest keys as {place, token, weight}; gaps are no keys. */
function barsFromMap(data) {
  const keys = [];
  for (let k = 0; k < data.keys.length; k += 1) {
    const weight = weightAt(data, [data.row, k]);
    if (!isGap(data, weight)) keys.push({ place: k, token: data.keys[k], weight });
  }
  keys.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight) || a.place - b.place);
  return {
    query: data.queries[data.row], place: data.row, shown: keys.slice(0, MOST_BARS), more: Math.max(0, keys.length - MOST_BARS),
    rest: keys.slice(MOST_BARS).reduce((sum, key) => sum + key.weight, 0),
  };
}

/** A round end for the bars' axis that holds the longest bar and the dashed line. */
function axisEnd(most) {
  return [0.05, 0.1, 0.25, 0.5, 1].find((end) => most <= end * 1.0001) ?? Math.ceil(most); // heads can be added up
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

const noPreference = (data) => `1/${count(Math.round(1 / data.uniform))}: no preference`;

function headingOf(data, query, place, exact) {
  if (exact && data.also.length) return `${data.also.length + 1} tokens together look at`;
  return `${quoted(query)} (${place})${data.signed ? ": where the two differ most" : " looks at"}`;
}

/** Room for the bars' labels, and where the words of the dashed line begin: above it, moved to the left where they would
 *  leave the component. Worked out here, because asking the page would make it lay itself out in the middle of a rerun. */
function planBars(state, pen, shown, end) {
  const { data, theme, map } = state;
  const width = map.side;
  pen.font = `${theme.rem * 1.05}px ${theme.font}`;
  const long = shown.reduce((most, bar) => Math.max(most, pen.measureText(oneLine(bar.token)).width), 0);
  const most = shown.reduce((largest, bar) => Math.max(largest, bar.place), 0);
  const digits = String(most).length * theme.rem * 0.5 + theme.rem * 0.5;
  const label = Math.ceil(clamp(long + digits, 48, Math.min(190, width * 0.42)));
  const track = width - label - (NUMBER + 2 * BAR_GAP) * theme.rem;
  pen.font = `${theme.rem * 0.95}px ${theme.font}`;
  const words = data.uniform > 0 ? pen.measureText(noPreference(data)).width : 0;
  const even = label + BAR_GAP * theme.rem + track * clamp(data.uniform / end, 0, 1);
  return { label, left: clamp(even, 0, Math.max(0, width - words - 2)) };
}

function paintBars(state) {
  const { data, theme } = state;
  // Where a cell of the map stands for several, the page sends the bars of the one exact row.
  const exact = data.bars?.row === data.row;
  const { query, place, shown, more, rest } = exact ? data.bars : barsFromMap(data);
  const end = axisEnd(Math.max(Math.abs(shown[0]?.weight ?? 0), data.uniform));
  keepBars(state, shown.length);
  state.bar.forEach((bar, i) => {
    const { token, weight } = shown[i];
    say(bar.token, oneLine(token));
    bar.token.title = token;
    say(bar.place, String(shown[i].place));
    say(bar.value, data.signed ? signedWith(percent, weight) : percent(weight));
    bar.fill.style.transform = `scaleX(${clamp(Math.abs(weight) / end, 0, 1)})`;
    bar.fill.style.background = data.signed ? theme.lessMore[weight < 0 ? 1 : 5] : "";
    set(bar.node, "data-key", shown[i].place);
    set(bar.node, "data-weight", weight);
  });
  const pen = state.picture.getContext("2d");
  const { label, left } = planBars(state, pen, shown, end);
  state.side.style.setProperty("--label", `${label}px`);
  state.side.style.setProperty("--even", clamp(data.uniform / end, 0, 1));
  state.even.hidden = state.nolean.hidden = !(data.uniform > 0);
  say(state.heading, headingOf(data, query, place, exact));
  say(state.nolean.firstElementChild, noPreference(data));
  state.nolean.firstElementChild.style.left = `${left}px`;
  say(state.ends.firstElementChild, "0");
  say(state.ends.lastElementChild, short(end));
  state.more.hidden = !more;
  say(state.more, more ? `and ${count(more)} more, together ${data.signed ? signedWith(percent, rest) : percent(rest)}` : "");
}

// ---- the whole ----

/** Bars beside the map keep both on one screen; below it where the cells would become too small for that. */
function standsBeside(data, width, beside) {
  return width >= 1000 || (width >= 700 && (beside - 120) / data.keys.length >= 12);
}

/** The map beside the bars or above them; worked out again only where tokens, width or theme changed. */
function planHead(state) {
  const { root, data, theme, width } = state;
  if (unchanged(state, "planned", [theme, width, state.fonts, data.queries, data.keys, data.side])) return;
  const bars = data.side !== false;
  const beside = width - Math.max(SIDE, SHARE * width) - 2 * theme.rem;
  const wide = bars && standsBeside(data, width, beside);
  root.classList.toggle("wide", wide);
  state.side.hidden = !bars;
  state.map = planMap(state.picture.getContext("2d"), data, wide ? beside : width, theme);
  state.map.side = Math.min(WIDEST_SIDE * theme.rem, wide ? width - state.map.width - 2 * theme.rem : width);
  state.heat.style.width = `${state.map.width}px`;
  for (const name of ["muted", "line"]) root.style.setProperty(`--${name}`, css(theme[name]));
  root.style.setProperty("--faint", css(mix(theme.text, theme.background, 0.07)));
}

function paintFrame(state) {
  const { data } = state;
  state.gaps = data.z.some((weight) => isGap(data, weight));
  say(state.title, data.title);
  state.title.hidden = !data.title;
  set(state.picture, "aria-label", `Heat map${data.title ? `, ${data.title}` : ""}: ${data.queries.length} query tokens look at ` +
    `${data.keys.length} key tokens. Arrow keys move from cell to cell, Enter chooses the row, Escape lets go.`);
  paintLegend(state);
}

function paintHead(state) {
  const { root, data } = state;
  if (!state.width || !data.queries.length) return;
  const began = performance.now();
  state.theme = readTheme(root);
  planHead(state);
  const { map } = state;
  map.full = fullColors(data);
  const pen = fitCanvas(state.picture, map.width, map.height);
  paintCells(state, pen);
  paintLabels(state, pen);
  paintFrame(state);
  paintMarks(state);
  if (data.side !== false) paintBars(state);
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
  if (token === null || (token === state.data.row && !state.data.also.length)) return;
  Object.assign(state.data, { row: token, also: [] }); // shown at once, the 1/n line too; the page's answer paints it again
  const { shown, more } = barsFromMap(state.data);
  const visible = shown.length + more;
  if (visible && state.data.uniform > 0) state.data.uniform = 1 / visible;
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
  state.data = { ...data, also: data.also ?? [], z: numbers(data.z) };
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
