// What each block of a worksheet step looks like: it paints itself and returns its lines. steps.js, which follows this file in
// one module, says what comes from Python and what happens when somebody looks at a cell.
// A line takes the focus and is read cell by cell: {node, cells, summary, words(cell), hosts, place? (of a key), upright? (its
// cells stand under each other)}. A host is a node that shows some of the cells: {node, first, n, at(x, y) → cell, box(cell)}.

const NO_NUMBER = Math.fround(-1.2345e38); // Python writes NaN so; −∞ and a mask's −3.4e38 are numbers here
const PAD = 8; // on both sides, so that the frame of a chosen row fits in; rows then begin under each other
const [LARGEST_DIAL, SMALLEST_DIAL] = [44, 34];

const missing = (value) => value === NO_NUMBER;

/** −0.7341550 → "−0.734155": as many digits as float32 knows, a true minus, ∞. */
function exact(value) {
  if (missing(value)) return "cannot look there";
  const text = Number.isFinite(value) ? String(Number(value.toPrecision(6))) : `${value < 0 ? "-" : ""}∞`;
  return text.replaceAll("-", "−");
}

// ---- a row of coloured cells ----

/** The cell that a pixel shows: where several share one, the furthest from 0. */
function cellOf(values, pixel, pixels) {
  const n = values.length;
  const first = Math.floor((pixel * n) / pixels);
  const end = Math.max(first + 1, Math.floor(((pixel + 1) * n) / pixels));
  let most = first;
  for (let i = first + 1; i < end; i += 1) {
    if (missing(values[most]) || (!missing(values[i]) && Math.abs(values[i]) > Math.abs(values[most]))) most = i;
  }
  return most;
}

/** One line of device pixels; the page draws it out to its height. */
function paintStrip(canvas, values, full, width, theme) {
  const ratio = window.devicePixelRatio || 1;
  const pixels = Math.max(1, Math.round(width * ratio));
  const n = values.length;
  const apart = width / n > 6 ? Math.max(1, Math.round(ratio)) : 0;
  const image = new ImageData(pixels, 1);
  for (let x = 0; x < pixels; x += 1) {
    const value = values[cellOf(values, x, pixels)];
    const between = apart && x + apart < pixels && Math.floor(((x + apart) * n) / pixels) > Math.floor((x * n) / pixels);
    if (between || missing(value)) continue; // stays transparent
    const place = Math.round(clamp((value / full + 1) / 2, 0, 1) * 255) * 3;
    for (let part = 0; part < 3; part += 1) image.data[x * 4 + part] = theme.difference[place + part];
    image.data[x * 4 + 3] = 255;
  }
  [canvas.width, canvas.height] = [pixels, 1];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function stripHost(node, first, values, full, width, theme) {
  if (!node.firstElementChild) child(node, "canvas").setAttribute("aria-hidden", "true");
  node.classList.toggle("holes", values.some(missing));
  paintStrip(node.firstElementChild, values, full, width, theme);
  const n = values.length;
  return { node, first, n,
           at: (x) => cellOf(values, clamp(Math.floor(x), 0, width - 1), width),
           box: (i) => [Math.min((i * width) / n, width - 3), 0, Math.max(width / n, 3), node.clientHeight] };
}

const wholeHost = (node, first) => ({ node, first, n: 1, at: () => 0, box: () => [0, 0, node.clientWidth, node.clientHeight] });

function makeTrack(parent) {
  const track = child(parent, "span", "track");
  track.setAttribute("aria-hidden", "true");
  return { fill: child(track, "span", "fill"), zero: child(track, "span", "zero") };
}

/** A bar from the zero line: the part of its track that it covers, 0 to 1. */
function paintBar({ fill, zero }, value, [low, high], color) {
  const end = missing(value) || !Number.isFinite(value) ? 0 : clamp(value, low, high);
  const share = (from, to) => (to - from) / (high - low);
  fill.style.transform = `translateX(${share(low, Math.min(end, 0)) * 100}%) scaleX(${Math.abs(share(0, end))})`;
  fill.style.background = css(color);
  zero.hidden = !(low < 0);
  zero.style.left = `${share(low, 0) * 100}%`;
}

/** q[12] = −0.734155 */
const assigned = (name, value) => `${name}${missing(value) ? ":" : " ="} ${exact(value)}`;

// ---- where things lie ----

/** Widths in whole pixels: one column for all labels, one for all notes, the strips between them. */
function planSteps(state) {
  const { data, theme, width } = state;
  const { rem, font } = theme;
  const measure = (texts, weight = 400) => {
    swatch.font = `${weight} ${rem}px ${font}`;
    return Math.ceil(texts.reduce((most, text) => Math.max(most, swatch.measureText(text).width), 0));
  };
  const labels = [];
  const notes = [];
  for (const block of data.blocks) {
    for (const part of block.strips ?? (block.kind === "dials" ? [block] : [])) {
      labels.push(part.label);
      notes.push(part.note);
    }
    if (block.kind === "keys") block.tokens.forEach((token, i) => labels.push(`${oneLine(token)}   ${block.places[i]}`));
    if (block.kind === "bars") labels.push(...block.labels);
  }
  const gap = Math.round(rem);
  const inside = width - 2 * PAD;
  const label = clamp(measure(labels, 700) + 4, Math.ceil(3 * rem), Math.floor(Math.min(15 * rem, inside * 0.24)));
  const note = Math.min(measure(notes), Math.floor(inside * 0.28));
  return { measure, gap, inside, label, note, strip: inside - label - gap - (note ? note + gap : 0) };
}

/** The columns of key rows: numbers take what they need, bars and strips share the rest. */
function planColumns({ columns }, plan, rem) {
  const texts = columns.map((column) => plan.measure(column.covered ? ["????"] : (column.texts ?? [])));
  const fixed = columns.map(({ kind, title }, c) => (kind === "number" ? Math.max(texts[c], plan.measure([title])) : 0));
  const sum = (values) => values.reduce((all, value) => all + value, 0);
  const shares = sum(columns.map(({ kind, wide }) => (kind === "number" ? 0 : wide)));
  const room = Math.max(plan.inside - plan.label - plan.gap * columns.length - sum(fixed), 3 * rem);
  return columns.map(({ wide }, c) => ({ text: texts[c], width: fixed[c] || Math.floor((room * wide) / shares) }));
}

const template = (...widths) => widths.map((width) => `${width}px`).join(" ");

// ---- the blocks: each paints itself and returns its lines ----

function makeBlock(state, kind) {
  const node = child(state.list, "div", `block ${kind}`);
  const block = { kind, node, parts: [], lines: [], title: child(node, "p", "title"), body: child(node, "div", "body") };
  if (kind !== "keys") return block;
  const [titles, rows, more] = [child(block.body, "div", "titles"), child(block.body, "div", "rows"), child(node, "p", "more")];
  return { ...block, titles, rows, more };
}

/** A line that is read cell by cell. */
function readAlong(node, label, hint) {
  set(node, "role", "application");
  set(node, "aria-roledescription", "row of numbers");
  set(node, "aria-label", `${label}. ${hint}`);
}

/** 64 numbers from −2.1 to 3.2 */
function rangeOf(values) {
  const known = values.filter((value) => !missing(value)).sort();
  return known.length ? `${count(values.length)} numbers from ${exact(known[0])} to ${exact(known.at(-1))}` : exact(NO_NUMBER);
}

function paintStrips(block, data, z, { theme, plan }) {
  keep(block.parts, data.strips.length, () => {
    const node = child(block.body, "div", "part");
    const line = child(node, "div", "line");
    const label = child(child(line, "span", "label"), "bdi");
    const [cells, note] = [child(line, "div", "cells strip"), child(line, "span", "note")];
    return { node, line, label, cells, note, then: child(node, "div", "then") };
  });
  return data.strips.map((strip, i) => {
    const part = block.parts[i];
    const values = z.subarray(strip.at, strip.at + strip.n);
    part.line.style.gridTemplateColumns = template(plan.label, plan.strip, plan.note);
    part.then.style.paddingLeft = `${PAD + plan.label + plan.gap}px`;
    part.then.style.paddingRight = `${PAD + (plan.note ? plan.note + plan.gap : 0)}px`;
    say(part.label, strip.label);
    say(part.note, strip.note);
    say(part.then, strip.then ? `↓ ${strip.then}` : "");
    part.then.hidden = !strip.then;
    const summary = `${strip.label}: ${rangeOf(values)}${strip.note ? `, ${strip.note}` : ""}`;
    readAlong(part.line, summary, "Left and right arrow keys read its numbers.");
    return { node: part.line, cells: strip.n, summary, hosts: [stripHost(part.cells, 0, values, strip.full, plan.strip, theme)],
             words: (cell) => assigned(`${strip.label}[${cell}]`, values[cell]) };
  });
}

/** One column of one key: its cells, as a host. */
function paintCell(cell, column, row, first, z, { width, text }, theme) {
  const kind = column.covered ? "covered" : column.kind;
  if (cell.kind !== kind) {
    Object.assign(cell, { kind, track: null });
    cell.node.className = `cells ${kind}`;
    cell.node.replaceChildren();
  }
  if (kind === "covered") say(cell.node, "?");
  if (kind === "covered") return wholeHost(cell.node, first);
  const at = column.at + row * column.n;
  if (kind === "strip") return stripHost(cell.node, first, z.subarray(at, at + column.n), column.full, width, theme);
  cell.node.classList.toggle("cannot-look", missing(z[at]));
  if (kind === "bar") {
    cell.track ??= { ...makeTrack(cell.node), value: child(cell.node, "span", "value") };
    cell.node.style.gridTemplateColumns = `minmax(0, 1fr) ${text}px`;
    paintBar(cell.track, z[at], column.span, column.signed || column.span[0] < 0 ? rgb(theme.lessMore[z[at] < 0 ? 1 : 5]) : theme.accent);
  }
  say(cell.track?.value ?? cell.node, column.texts[row]);
  return wholeHost(cell.node, first);
}

const keyName = (data, row) => `${quoted(data.tokens[row])} (${data.places[row]})`;

function cellOfKey(data, z, row, cell) {
  let c = 0;
  for (; cell >= data.columns[c].n; c += 1) cell -= data.columns[c].n;
  const { title, kind, n, at, covered } = data.columns[c];
  if (covered) return `${keyName(data, row)}, ${title}: covered until you have guessed`;
  return `${keyName(data, row)}, ${assigned(kind === "strip" ? `${title}[${cell}]` : title, z[at + row * n + cell])}`;
}

function summaryOfKey(data, z, row) {
  const parts = data.columns.map(({ title, kind, n, at, texts, covered }) => {
    if (covered) return `${title}: covered`;
    if (kind === "strip") return `${title}: ${rangeOf(z.subarray(at + row * n, at + (row + 1) * n))}`;
    return missing(z[at + row]) ? assigned(title, NO_NUMBER) : `${title} ${texts[row]}`;
  });
  return [keyName(data, row), ...parts].join(", ");
}

function paintKeys(block, data, z, { theme, plan }) {
  const { titles, rows, more } = block;
  const columns = planColumns(data, plan, theme.rem);
  const widths = template(plan.label, ...columns.map((column) => column.width));
  const height = Math.floor(clamp(490 / data.tokens.length, 1.42 * theme.rem, 2 * theme.rem)); // twenty rows on one screen
  block.node.style.setProperty("--row", `${height}px`);
  set(rows, "role", "listbox");
  set(rows, "aria-label", `${data.title || "Keys"}. Enter chooses a key, left and right arrow keys read its numbers.`);
  titles.style.gridTemplateColumns = widths;
  titles.replaceChildren();
  for (const { title, kind } of [{ title: "", kind: "" }, ...data.columns]) say(child(titles, "span", kind), title);
  say(more, data.more);
  more.hidden = !data.more;
  keep(block.parts, data.tokens.length, () => {
    const node = child(rows, "div", "line");
    const label = child(node, "span", "label");
    set(node, "role", "option");
    return { node, token: child(label, "bdi"), place: child(label, "span", "place"), cells: [] };
  });
  return data.tokens.map((token, row) => {
    const { node, cells, ...label } = block.parts[row];
    node.style.gridTemplateColumns = widths;
    say(label.token, oneLine(token));
    say(label.place, String(data.places[row]));
    keep(cells, columns.length, () => ({ node: child(node, "span") }));
    let first = 0;
    const hosts = data.columns.map((column, c) => {
      const host = paintCell(cells[c], column, row, first, z, columns[c], theme);
      first += column.n;
      return host;
    });
    const summary = summaryOfKey(data, z, row);
    set(node, "aria-description", summary); // its name is what stands in it
    return { node, cells: first, summary, hosts, place: data.places[row], words: (cell) => cellOfKey(data, z, row, cell) };
  });
}

/** As many lines of dials as make them large enough, spread over the room; `wide` and `high`: what each dial has. */
function planDials(n, room) {
  let lines = 1;
  while (lines < (room >= 640 ? 2 : 4) && room / Math.ceil(n / lines) < SMALLEST_DIAL) lines += 1;
  const across = Math.ceil(n / lines);
  const wide = Math.min(1.25 * LARGEST_DIAL, room / across);
  const high = Math.min(LARGEST_DIAL, Math.floor(wide));
  return { across, wide, high, width: Math.floor(across * wide), height: lines * high };
}

/** before x, before y, after x, after y, angle of one pair. */
const pairAt = (data, z, i) => [0, 1, 2, 3, 4].map((part) => z[data.at + part * data.n + i]);

function paintDial(pen, x, y, radius, [x0, y0, x1, y1, angle], theme) {
  const most = Math.max(Math.hypot(x0, y0), Math.hypot(x1, y1)) || 1;
  const from = Math.atan2(y0, x0); // counted against the clock, as in a textbook
  pen.lineWidth = 1;
  pen.strokeStyle = css(theme.line);
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.stroke();
  pen.fillStyle = css(mix(theme.accent, theme.background, 0.16));
  pen.beginPath();
  pen.moveTo(x, y);
  pen.arc(x, y, radius - 1, -from, -(from + (angle % (2 * Math.PI))), angle > 0);
  pen.fill();
  for (const [dx, dy, color, thick] of [[x0, y0, mix(theme.text, theme.background, 0.5), 1.5], [x1, y1, theme.accent, 3]]) {
    pen.strokeStyle = css(color);
    pen.lineWidth = thick;
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(x + (dx / most) * (radius - 2), y - (dy / most) * (radius - 2));
    pen.stroke();
  }
}

function paintDials(block, data, z, { theme, plan }) {
  keep(block.parts, 1, () => {
    const node = child(block.body, "div", "line");
    const label = child(child(node, "span", "label"), "bdi");
    const cells = child(node, "div", "cells dials");
    return { node, label, cells, canvas: child(cells, "canvas"), note: child(node, "span", "note") };
  });
  const { node, label, cells, canvas, note } = block.parts[0];
  const { across, wide, high, width, height } = planDials(data.n, plan.strip);
  node.style.gridTemplateColumns = template(plan.label, plan.strip, plan.note);
  say(label, data.label);
  say(note, data.note);
  const pen = fitCanvas(canvas, width, height);
  pen.lineCap = "round";
  const corner = (i) => [(i % across) * wide + (wide - high) / 2, Math.floor(i / across) * high];
  for (let i = 0; i < data.n; i += 1) {
    const [left, top] = corner(i);
    paintDial(pen, left + high / 2, top + high / 2, high / 2 - 2, pairAt(data, z, i), theme);
  }
  const summary = `${data.label}: ${data.n} pairs, each turned by its angle${data.note ? `, ${data.note}` : ""}`;
  readAlong(node, summary, "Left and right arrow keys read its pairs.");
  const inside = (x, y) => x >= 0 && x < width && y >= 0 && y < height;
  const at = (x, y) => (inside(x, y) ? Math.floor(y / high) * across + Math.floor(x / wide) : null);
  const words = (i) => {
    const [x0, y0, x1, y1, angle] = pairAt(data, z, i).map(exact);
    return `pair ${i}: (${x0}, ${y0}) turned by ${angle} rad → (${x1}, ${y1})`;
  };
  const host = { node: cells, first: 0, n: data.n, at, box: (i) => [...corner(i), high, high] };
  return [{ node, cells: data.n, summary, words, hosts: [host] }];
}

function paintBars(block, data, z, { theme, plan }) {
  const { body } = block;
  const n = data.labels.length;
  const columns = n > 32 && plan.inside >= 1000 ? 3 : n > 16 && plan.inside >= 560 ? 2 : 1;
  const texts = data.texts.map((text) => (data.unit ? `${text} ${data.unit}` : text));
  const widths = [columns > 1 ? plan.measure(data.labels, 700) : plan.label, plan.measure(texts, 700)];
  body.className = "body list";
  body.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  body.style.gridTemplateRows = `repeat(${Math.ceil(n / columns)}, auto)`;
  keep(block.parts, n, () => {
    const node = child(body, "div", "cells");
    return { node, label: child(child(node, "span", "label"), "bdi"), track: makeTrack(node), value: child(node, "span", "value") };
  });
  const hosts = block.parts.map(({ node, label, track, value }, i) => {
    node.style.gridTemplateColumns = `${widths[0]}px minmax(0, 1fr) ${widths[1]}px`;
    node.classList.toggle("marked", i === data.marked);
    node.classList.toggle("cannot-look", missing(z[i]));
    say(label, data.labels[i]);
    say(value, texts[i]);
    paintBar(track, z[i], data.span, i === data.marked ? theme.accent : mix(theme.text, theme.background, 0.3));
    return wholeHost(node, i);
  });
  const marked = data.marked === null ? "" : `, marked: ${data.labels[data.marked]} ${texts[data.marked]}`;
  const summary = `${data.title || "Bars"}: ${n} bars${marked}`;
  readAlong(body, summary, "Arrow keys read them.");
  const words = (i) => `${data.labels[i]}: ${exact(z[i])}${data.unit && !missing(z[i]) ? ` ${data.unit}` : ""}`;
  return [{ node: body, cells: n, summary, hosts, words, upright: true }];
}

/** Query heads in boxes, a box for each key-value head that they share. Nothing in it has a number to read. */
function paintGroups(block, data) {
  const { body } = block;
  body.className = "body sharing";
  set(body, "role", "img");
  set(body, "aria-label", data.words);
  keep(block.parts, data.heads / data.each, () => {
    const node = child(body, "div", "group");
    return { node, queries: child(node, "div", "queries"), shared: child(node, "span", "shared"), heads: [] };
  });
  block.parts.forEach(({ node, queries, shared, heads }, group) => {
    keep(heads, data.each, () => ({ node: child(queries, "span", "query") }));
    heads.forEach((head, i) => {
      say(head.node, `q ${group * data.each + i}`);
      head.node.classList.toggle("this", group * data.each + i === data.marked);
    });
    say(shared, `k, v ${group}`);
    node.classList.toggle("this", group === Math.floor(data.marked / data.each));
  });
  return [];
}
