// The rows of a key-value cache as pictures: where they lie, and how they are painted. growth.js, which follows this file in one
// module, says what comes from Python and what happens when somebody looks at a cell.
// A line is what one strip of pixels shows: one row, or several that share it: {first, end}.
// A line that is drawn already is not drawn again: rows that are reused are the same pixels.

const [TALLEST_PICTURE, MOST_LINES, THINNEST] = [37.5, 120, 5]; // rem, lines, pixels
const OWN_LINES = 8; // as many new rows stand alone where others share a line

// ---- the rows ----

/** What is in the data, so that the rest can ask for it: rows, numbers a row, where the new rows begin. */
function facts(data) {
  const rows = data.tokens.length;
  const [d, dv] = [data.k, data.v].map((z) => (z && rows ? z.length / rows : 0));
  const index = new Map(data.places.map((place, i) => [place, i]));
  let first = data.places.findIndex((place) => place >= data.new[0] && place < data.new[1]);
  if (first < 0) first = rows;
  const heaviest = data.w?.length ? data.w.reduce((best, weight, i) => (weight > data.w[best] ? i : best), 0) : null;
  const cells = d + dv + (data.w ? 1 : 0);
  return { rows, d, dv, dq: data.q?.length ?? 0, cells, first, heaviest, chosen: index.get(data.chosen) ?? null };
}

/** The rows of each line: one, or as many as it takes to get them all on the screen; new ones stand alone. */
function linesOf(rows, first, most) {
  const each = most > MOST_LINES ? Math.ceil(most / (MOST_LINES - OWN_LINES)) : 1;
  const own = rows - first > OWN_LINES ? rows : first;
  const lines = [];
  for (let i = 0; i < own; i += each) lines.push({ first: i, end: Math.min(i + each, own) });
  for (let i = own; i < rows; i += 1) lines.push({ first: i, end: i + 1 });
  return { lines, each, capacity: each === 1 ? most : Math.ceil(most / each) + 1 };
}

// ---- where things lie, in whole CSS pixels ----

function planGrowth(state) {
  const { data, theme, width, facts: { rows, d, dv, first } } = state;
  const { rem, font } = theme;
  const measure = (texts, weight = 400) => {
    swatch.font = `${weight} ${rem}px ${font}`;
    return Math.ceil(texts.reduce((most, text) => Math.max(most, swatch.measureText(text).width), 0));
  };
  const gap = Math.round(rem * 1.2);
  const gutter = width < 40 * rem ? 0 : measure(["computed", "reused"], 700) + 20;
  const place = measure([String(data.places.at(-1)), "000"], 700);
  // The token's room never shrinks, and grows in steps: else every longer token would move all that stands right of it.
  const longest = Math.ceil((measure([...new Set(data.tokens)].map(oneLine), 700) + 6) / (1.5 * rem)) * 1.5 * rem;
  state.room = clamp(Math.max(longest, state.room), 4 * rem, Math.min(11 * rem, width * 0.2));
  const token = Math.floor(state.room);
  const x = { place: gutter, token: gutter + place + 8 };
  x.k = x.token + token + 8;
  const percents = data.w ? measure(["100.0%"], 700) : 0;
  const bar = data.w ? Math.round(clamp(width * 0.11, 3 * rem, 9 * rem)) : 0;
  const room = width - x.k - (dv ? gap : 0) - (data.w ? bar + percents + gap + 8 : 0) - 4;
  const wide = { k: Math.floor(dv ? clamp((room * d) / (d + dv), room * 0.2, room * 0.8) : room) };
  wide.v = dv ? Math.floor(room - wide.k) : 0;
  x.v = x.k + wide.k + (dv ? gap : 0);
  x.w = x.v + wide.v + (data.w ? gap : 0);
  wide.w = bar;
  x.end = x.w + (data.w ? bar + 8 + percents : 0);
  const text = Math.round(rem * 1.25);
  const twoLines = measure([data.queryLabel]) > x.k - 10;
  const strip = Math.round(rem * 1.5);
  const y = { query: twoLines ? text - strip / 2 : 2 };
  y.titles = data.q ? Math.max(y.query + strip + Math.round(rem * 0.9), twoLines ? 2 * text + 4 : 0) : 0;
  y.gone = y.titles + text + 6;
  y.rows = y.gone + (data.forgotten ? text + 8 : 0);
  const end = Math.round(text * 1.25) + 8; // the row that is still to come
  const grouped = linesOf(rows, first, data.most);
  const high = clamp(Math.floor((TALLEST_PICTURE * rem - y.rows - end) / grouped.capacity), THINNEST, Math.round(rem * 1.6));
  const apart = high >= 12 ? 2 : high >= 7 ? 1 : 0;
  return { ...grouped, x, y, wide, strip, twoLines, high, thin: high < 0.85 * text, apart, text, place, token, percents, gutter, end,
           height: y.rows + grouped.capacity * high + end };
}

const top = (plan, line) => plan.y.rows + line * plan.high;

/** The line that has a row: those of before are shared, new ones not. */
const lineAt = ({ lines }, row) => lines.findIndex(({ first, end }) => row >= first && row < end);

// ---- the pictures ----

/** Where each shown cell of a row of n numbers begins, and n: a cell a number, or as many as there are pixels. */
function cellStarts(n, pixels) {
  const shown = Math.min(n, Math.max(pixels, 1));
  return Uint32Array.from({ length: shown + 1 }, (_, i) => Math.floor((i * n) / shown));
}

/** For each shown cell of a line the number that it shows, as an index into z: of several the furthest from 0. */
function furthest(z, n, starts, { first, end }) {
  const found = new Uint32Array(starts.length - 1);
  for (let cell = 0; cell < found.length; cell += 1) {
    let best = first * n + starts[cell];
    for (let row = first; row < end; row += 1) {
      for (let i = row * n + starts[cell]; i < row * n + starts[cell + 1]; i += 1) {
        if (missing(z[best]) || (!missing(z[i]) && Math.abs(z[i]) > Math.abs(z[best]))) best = i;
      }
    }
    found[cell] = best;
  }
  return found;
}

/** A line of cells, in device pixels. */
function stampLine(pen, z, found, full, colors, [x, y, width, height]) {
  const ratio = window.devicePixelRatio || 1;
  const [left, w] = [Math.round(x * ratio), Math.round(width * ratio)];
  const [upper, h] = [Math.round(y * ratio), Math.max(1, Math.round((y + height) * ratio) - Math.round(y * ratio))];
  const thin = w / found.length > 6 * ratio ? Math.max(1, Math.round(ratio)) : 0;
  const image = new ImageData(w, h);
  const memory = new Uint32Array(image.data.buffer);
  for (let cell = 0; cell < found.length; cell += 1) {
    const value = z[found[cell]];
    if (missing(value)) continue; // stays transparent
    const end = Math.floor(((cell + 1) * w) / found.length) - (cell + 1 < found.length ? thin : 0);
    memory.fill(colors[Math.round(clamp((value / full + 1) / 2, 0, 1) * 255)], Math.floor((cell * w) / found.length), end);
  }
  for (let row = 1; row < h; row += 1) memory.copyWithin(row * w, 0, w);
  pen.putImageData(image, left, upper);
}

/** Whether a line shows the very numbers that it showed. */
function sameLine(before, line, data, { d, dv }) {
  if (!before || before.first !== line.first || before.end !== line.end) return false;
  return [["k", d], ["v", dv]].every(([name, n]) => n === 0 || same(before[name], data[name].subarray(line.first * n, line.end * n)));
}

/** Draws what is not drawn yet, and returns how many lines that were. */
function paintRows(state, colors) {
  const { data, plan, theme, canvas, facts: { d, dv } } = state;
  const { x, y, wide, high, apart, lines } = plan;
  const kinds = [["k", d, data.full[0]], ["v", dv, data.full[1]]].filter(([, n]) => n > 0);
  const places = [x.k, x.v, x.end, y.rows, wide.k, wide.v, high, apart, plan.height];
  const look = [theme, window.devicePixelRatio, places, d, dv, data.full.slice(0, 2)];
  let before = state.drawn?.lines ?? [];
  let pen = canvas.getContext("2d");
  if (!state.drawn || !state.drawn.look.every((part, i) => same(part, look[i]))) {
    pen = fitCanvas(canvas, x.end - x.k, plan.height);
    before = [];
  }
  const starts = { k: cellStarts(d, wide.k), v: cellStarts(dv, wide.v) };
  let fresh = 0;
  const drawn = lines.map((line, i) => {
    if (sameLine(before[i], line, data, state.facts)) return before[i];
    fresh += 1;
    const own = { ...line, found: {} };
    for (const [name, n, full] of kinds) {
      own[name] = data[name].subarray(line.first * n, line.end * n);
      own.found[name] = furthest(data[name], n, starts[name], line);
      pen.clearRect(x[name] - x.k, top(plan, i), wide[name], high);
      stampLine(pen, data[name], own.found[name], full, colors, [x[name] - x.k, top(plan, i), wide[name], high - apart]);
    }
    return own;
  });
  if (before.length > lines.length) pen.clearRect(0, top(plan, lines.length), x.end - x.k, (before.length - lines.length) * high);
  state.drawn = { look, lines: drawn };
  return fresh;
}

function paintQuery(state, colors) {
  const { data, plan: { y, wide, strip }, facts: { dq } } = state;
  const pen = state.canvas.getContext("2d");
  pen.clearRect(0, 0, wide.k, y.titles);
  if (!data.q) return;
  const full = data.full[2] ?? (data.q.reduce((most, value) => Math.max(most, missing(value) ? 0 : Math.abs(value)), 0) || 1);
  const found = furthest(data.q, dq, cellStarts(dq, wide.k), { first: 0, end: 1 });
  stampLine(pen, data.q, found, full, colors, [0, y.query, wide.k, strip]);
}

/** The heaviest row of a line. */
function heaviestOf({ w }, { first, end }) {
  let best = first;
  for (let row = first; row < end; row += 1) if (w[row] > w[best]) best = row;
  return best;
}

function paintWeights(state) {
  const { data, plan, theme } = state;
  const { x, wide, lines, high, apart } = plan;
  if (!data.w) return;
  const pen = state.canvas.getContext("2d");
  pen.clearRect(x.w - x.k - 1, plan.y.rows, wide.w + 1, plan.height - plan.y.rows);
  const pad = high >= 16 ? 2 : 0;
  const bar = (i, share) => pen.fillRect(x.w - x.k, top(plan, i) + pad, wide.w * share, high - apart - 2 * pad);
  pen.fillStyle = css(mix(theme.text, theme.background, plan.thin ? 0.2 : 0.07));
  if (plan.thin) pen.fillRect(x.w - x.k - 1, plan.y.rows, 1, lines.length * high); // tracks would be one grey field
  else lines.forEach((_, i) => bar(i, 1));
  pen.fillStyle = css(theme.accent);
  lines.forEach((line, i) => bar(i, clamp(data.w[heaviestOf(data, line)], 0, 1)));
}
