// Every head of the model as a small picture or a small curve, on one canvas: a row per layer and a column per head, or
// one after the other in a given order. Layers are called entries here, as in Capture.
// data: {z (all pictures, one after the other) uint8, shapes: [[heads, rows, columns], …], curves?: true (one row each),
//        names, entry, head, combined?: [[entry, head], …], colors?: [place in the palette, …], order?: [[entry, head], …],
//        scores? (all heads) float32, scoreName?, shown? (all heads) uint8}.
// Trigger "choose": {entry, head, add}.

const TALLEST = 660; // pixels for the whole grid: 30 layers still fit on one screen
const LARGEST = 96;
const NO_SCORE = -1e30; // Python writes so where a head has none, because Arrow would turn NaN into null

function makeOverview(root) {
  const find = (name) => root.querySelector(name);
  return { picture: find("canvas.picture"), mark: find("canvas.mark"), status: find(".status"),
           hover: null, cursor: null, choose: () => {} };
}

/** What is known of every head, in the model's order: {entry, head, at (its number), offset (into z), rows, columns}. */
function allHeads(shapes) {
  const heads = [];
  let offset = 0;
  shapes.forEach(([count, rows, columns], entry) => {
    for (let head = 0; head < count; head += 1, offset += rows * columns) {
      heads.push({ entry, head, at: heads.length, offset, rows, columns });
    }
  });
  return heads;
}

const isThere = (data, at) => !data.shown || data.shown[at] === 1;

// ---- where things lie, in CSS pixels ----

/** "layer 3" everywhere → "3" beside the picture; names that say more (encoder, cross) stay whole. */
function shortNames(names) {
  const parts = names.map((name) => /^(.*\D)(\d+)$/.exec(name));
  const alike = parts.every((part) => part && part[1] === parts[0][1]);
  return { caption: alike ? `${parts[0][1].trim()} ↓` : "", labels: alike ? parts.map((part) => part[2]) : names };
}

const gapFor = (pitch) => (pitch >= 60 ? 6 : pitch >= 30 ? 4 : 2);

/** A row per entry, a column per head. */
function planGrid(pen, data, all, width, theme) {
  const size = Math.round(theme.rem * 0.9);
  pen.font = `700 ${size}px ${theme.font}`; // the chosen one is bold
  const { caption, labels } = shortNames(data.names);
  const longest = Math.max(...labels.map((label) => pen.measureText(label).width));
  const left = Math.ceil(Math.min(Math.max(longest, pen.measureText(caption).width) + 10, width * 0.4));
  const top = size * 2 + 8; // one line for the caption, one for the head numbers
  const heads = Math.max(...data.shapes.map((shape) => shape[0]));
  const entries = data.shapes.length;
  const room = Math.min((width - left - 4) / heads, (TALLEST - top - 4) / entries, LARGEST);
  const pitch = room >= 4 ? Math.floor(room) : room;
  const places = all.map((one) => ({ ...one, x: left + one.head * pitch, y: top + one.entry * pitch }));
  return { size, caption, labels, left, top, heads, pitch, step: pitch, cell: pitch - gapFor(pitch), places,
           columns: heads, width, height: top + pitch * entries + 4 };
}

/** One after the other in data.order, as large as fits, each with its label (and its score) under it where there is room. */
function planFlow(data, all, width, theme) {
  const start = all.reduce((known, one) => known.set(`${one.entry},${one.head}`, one), new Map());
  const order = data.order.map((place) => start.get(String(place))).filter((one) => one && isThere(data, one.at));
  const size = Math.round(theme.rem * 0.85);
  const fit = (pitch, text) => {
    const [columns, step] = [Math.max(1, Math.floor((width - 6) / pitch)), pitch + text];
    return Math.ceil(order.length / columns) * step + 8 <= TALLEST ? { pitch, columns, step, lines: text / (size + 2) } : null;
  };
  let plan = null;
  for (let pitch = LARGEST; pitch >= 6 && !plan; pitch -= 1) {
    const lines = pitch >= size * 3 ? (data.scores ? 2 : 1) : pitch >= size * 2.5 ? 1 : 0;
    plan = fit(pitch, lines * (size + 2));
  }
  plan ??= { pitch: 6, columns: Math.max(1, Math.floor((width - 6) / 6)), step: 6, lines: 0 };
  const places = order.map((one, i) => (
    { ...one, x: 3 + (i % plan.columns) * plan.pitch, y: 4 + Math.floor(i / plan.columns) * plan.step }));
  const rows = Math.ceil(order.length / plan.columns);
  return { ...plan, size, places, left: 3, top: 4, cell: plan.pitch - gapFor(plan.pitch), flow: true,
           width, height: Math.max(rows * plan.step + 8, 1) };
}

function planPlaces(state) {
  const { data, theme } = state;
  const all = allHeads(data.shapes);
  const grid = data.order ? planFlow(data, all, state.width, theme)
    : planGrid(state.picture.getContext("2d"), data, all, state.width, theme);
  grid.byName = new Map(grid.places.map((place, i) => [`${place.entry},${place.head}`, i]));
  grid.all = new Map(all.map((one) => [`${one.entry},${one.head}`, one.at]));
  return grid;
}

const placeOf = (state, name) => state.grid.places[state.grid.byName.get(String(name))];

// ---- the pictures ----

/** For each pixel of a side the first bin that it shows, and one number more: bins are repeated, or several share a pixel. */
function binsOf(pixels, bins) {
  return Uint16Array.from({ length: pixels + 1 }, (_, i) => Math.floor((i * bins) / pixels));
}

/** One head into the image: the largest weight under each pixel, so that a thin diagonal survives. */
function stamp(image, width, place, box, z, colors) {
  const [down, across] = [binsOf(box.side, place.rows), binsOf(box.side, place.columns)];
  for (let y = 0; y < box.side; y += 1) {
    const line = (box.y + y) * width + box.x;
    const lastRow = Math.max(down[y + 1], down[y] + 1);
    for (let x = 0; x < box.side; x += 1) {
      const lastColumn = Math.max(across[x + 1], across[x] + 1);
      let most = 0;
      for (let q = down[y]; q < lastRow; q += 1) {
        for (let k = across[x]; k < lastColumn; k += 1) {
          const weight = z[place.offset + q * place.columns + k];
          if (weight > most) most = weight;
        }
      }
      image[line + x] = colors[most];
    }
  }
}

/** All pictures as one image of the canvas's own pixels: hundreds of small ones are slow to hand over. */
function paintThumbnails(state, pen) {
  const { data, grid, theme, picture } = state;
  const ratio = picture.width / grid.width;
  const image = new ImageData(picture.width, picture.height);
  const memory = new Uint32Array(image.data.buffer);
  const [strong, faint] = [1, 0.16].map((amount) => inks(theme.ramp, theme.background, amount));
  for (const place of grid.places) {
    const box = { x: Math.round(place.x * ratio), y: Math.round(place.y * ratio), side: Math.round(grid.cell * ratio) };
    stamp(memory, picture.width, place, box, data.z, isThere(data, place.at) ? strong : faint);
  }
  pen.putImageData(image, 0, 0);
}

/** Weight by distance, left the token itself: an area under a line. */
function paintCurves(state, pen) {
  const { data, grid, theme } = state;
  const top = theme.dark ? 200 : 180; // the place of the ramp that reads on the page
  const color = theme.ramp.subarray(top * 3, top * 3 + 3);
  pen.lineJoin = "round";
  pen.lineWidth = grid.cell >= 40 ? 1.6 : 1;
  for (const { x, y, at, offset, columns } of grid.places) {
    const height = (bin) => y + grid.cell - 1 - (data.z[offset + bin] / 255) * (grid.cell - 2);
    const across = (bin) => x + (columns > 1 ? (bin / (columns - 1)) * grid.cell : grid.cell / 2);
    const line = new Path2D();
    for (let bin = 0; bin < columns; bin += 1) line.lineTo(across(bin), height(bin));
    const area = new Path2D(line);
    area.lineTo(x + grid.cell, y + grid.cell);
    area.lineTo(x, y + grid.cell);
    pen.globalAlpha = isThere(data, at) ? 1 : 0.16;
    pen.fillStyle = css(mix(color, theme.background, 0.28));
    pen.fill(area);
    pen.strokeStyle = css(color);
    pen.stroke(line);
  }
  pen.globalAlpha = 1;
}

/** The thin edges of the pictures, and under each its label where they do not stand in rows. */
function paintEdges(state, pen) {
  const { data, grid, theme } = state;
  pen.lineWidth = 1;
  pen.strokeStyle = css(mix(theme.text, theme.background, grid.pitch < 30 ? 0.12 : 0.2));
  for (const { x, y } of grid.places) pen.strokeRect(x - 0.5, y - 0.5, grid.cell + 1, grid.cell + 1);
  if (!grid.lines) return;
  const labels = shortNames(data.names).labels;
  pen.font = `${grid.size}px ${theme.font}`;
  pen.textAlign = "center";
  pen.textBaseline = "top";
  for (const { x, y, entry, head, at } of grid.places) {
    const middle = x + grid.cell / 2;
    pen.fillStyle = css(theme.text);
    pen.fillText(shorten(pen, `${labels[entry]}.${head}`, grid.pitch - 1), middle, y + grid.cell + 3);
    if (grid.lines < 2) continue;
    pen.fillStyle = css(theme.muted);
    pen.fillText(scoreOf(data, at), middle, y + grid.cell + 3 + grid.size + 2);
  }
}

/** A score in few digits: 0.83, 12.4, 310. */
function scoreOf(data, at) {
  const score = data.scores[at];
  return !(score > NO_SCORE) ? "–" : Math.abs(score) < 10 ? score.toFixed(2) : score.toFixed(Math.abs(score) < 100 ? 1 : 0);
}

// ---- what changes without new pictures ----

/** Numbers at the edges of the grid; where they would touch, only every second, third … */
function paintNumbers(state, pen) {
  const { grid, data, theme } = state;
  const quiet = `${grid.size}px ${theme.font}`;
  pen.textBaseline = "middle";
  const line = (labels, every, chosen, where) => {
    pen.font = quiet;
    pen.fillStyle = css(theme.muted);
    for (let i = 0; i < labels.length; i += every) if (i !== chosen) where(labels[i], i);
    if (chosen % every) return;
    pen.font = `700 ${quiet}`;
    pen.fillStyle = css(theme.accent);
    where(labels[chosen], chosen);
  };
  pen.font = quiet;
  const digits = pen.measureText(String(grid.heads - 1)).width + 4;
  const heads = Array.from({ length: grid.heads }, (_, head) => String(head));
  pen.textAlign = "center";
  line(heads, Math.ceil(digits / grid.pitch), data.head, (label, i) =>
    pen.fillText(label, grid.left + i * grid.pitch + grid.cell / 2, grid.top - 4 - grid.size / 2));
  pen.textAlign = "right";
  line(grid.labels, Math.ceil((grid.size + 1) / grid.pitch), data.entry, (label, i) =>
    pen.fillText(shorten(pen, label, grid.left - 8), grid.left - 8, grid.top + i * grid.pitch + grid.cell / 2));
  pen.font = quiet;
  pen.fillStyle = css(theme.muted);
  pen.fillText(grid.caption, grid.left - 8, grid.top - 4 - grid.size / 2);
  pen.textAlign = "left";
  pen.fillText("head →", grid.left, grid.size / 2 + 1);
}

/** The chosen head, those combined with it, the one under the pointer, the cursor. */
function paintMarks(state) {
  const { data, grid, theme } = state;
  if (!grid) return; // not painted yet
  const pen = fitCanvas(state.mark, grid.width, grid.height);
  if (!grid.flow) paintNumbers(state, pen);
  const around = (place, color, thick) => {
    if (!place) return;
    const out = thick / 2; // outside of the picture, in the gap
    frame(pen, place.x - out, place.y - out, grid.cell + 2 * out, grid.cell + 2 * out, color, thick, theme.background);
  };
  const chosen = [data.entry, data.head];
  const [thin, thick] = grid.pitch >= 40 ? [3, 5] : [2, 3];
  let color = theme.accent;
  (data.combined ?? []).forEach((place, i) => {
    const own = data.colors ? palette(theme, data.colors[i]).color : theme.accent;
    if (String(place) === String(chosen)) color = own;
    else around(placeOf(state, place), own, thin);
  });
  around(placeOf(state, chosen), color, thick);
  const looked = state.hover ?? state.cursor;
  if (looked) around(placeOf(state, looked), theme.text, 2);
  say(state.status, headName(state, looked ?? chosen));
}

function headName(state, [entry, head]) {
  const { data, grid } = state;
  const at = grid.all.get(`${entry},${head}`);
  const words = [`${data.names[entry]}, head ${head}`];
  if (data.scores) words.push(` · ${data.scoreName ? `${data.scoreName} ` : ""}${scoreOf(data, at)}`);
  const together = (data.combined ?? []).findIndex((place) => String(place) === `${entry},${head}`);
  if (entry === data.entry && head === data.head) words.push(", chosen");
  else if (together >= 0) words.push(", chosen too");
  if (together >= 0 && data.colors) words.push(` (${palette(state.theme, data.colors[together]).name})`);
  if (data.shown) {
    const left = data.shown.reduce((sum, there) => sum + there, 0);
    if (!isThere(data, at)) words.push(", filtered out");
    words.push(`\n${count(left)} of ${count(data.shown.length)} heads`);
  }
  return words.join("");
}

function paintOverview(state) {
  const { root, data } = state;
  if (!state.width || !data.shapes.length) return;
  const theme = (state.theme = readTheme(root));
  const { shapes, names, curves, order, shown, scores, z } = data;
  const size = [state.width, window.devicePixelRatio, state.fonts];
  // A head that is chosen moves the mark and no more.
  if (!unchanged(state, "before", [theme, size, shapes, names, curves, order, shown, scores, z])) {
    state.grid = planPlaces(state);
    const pen = fitCanvas(state.picture, state.grid.width, state.grid.height);
    if (curves) paintCurves(state, pen);
    else paintThumbnails(state, pen);
    paintEdges(state, pen);
    state.pictures = (state.pictures ?? 0) + 1;
  }
  paintMarks(state);
  painted(state, { entry: data.entry, head: data.head, pictures: state.pictures });
}

// ---- looking and choosing ----

/** The head under the pointer, or null between and beside them. */
function headAt(state, event) {
  const { grid } = state;
  const column = Math.floor((event.offsetX - grid.left) / grid.pitch);
  const row = Math.floor((event.offsetY - grid.top) / grid.step);
  if (column < 0 || column >= grid.columns || row < 0) return null;
  const place = grid.flow ? grid.places[row * grid.columns + column] : placeOf(state, [row, column]);
  return place ? [place.entry, place.head] : null;
}

function lookAt(state, hover) {
  if (String(hover) === String(state.hover)) return;
  state.hover = hover;
  paintMarks(state);
}

function chooseHead(state, place, add) {
  if (!place) return;
  const [entry, head] = place;
  if (!add) {
    if (entry === state.data.entry && head === state.data.head && !state.data.combined?.length) return;
    Object.assign(state.data, { entry, head }); // shown at once; the page's answer paints it again
    paintOverview(state);
  }
  state.choose({ entry, head, add });
}

/** Where an arrow key leads: through the rows of the grid, or along the order. */
function goal(state, key) {
  const { grid, data } = state;
  const [entry, head] = state.cursor ?? [data.entry, data.head];
  if (grid.flow) {
    const last = grid.places.length - 1;
    const here = grid.byName.get(`${entry},${head}`);
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -grid.columns, ArrowDown: grid.columns, Home: -Infinity, End: Infinity }[key];
    if (step === undefined || last < 0) return null;
    const next = here === undefined ? 0 : here + step; // a chosen head that is filtered out: begin with the best
    const leaves = (next < 0 || next > last) && Math.abs(step) === grid.columns;
    const place = grid.places[leaves ? here : clamp(next, 0, last)];
    return [place.entry, place.head];
  }
  const next = {
    ArrowLeft: [entry, head - 1], ArrowRight: [entry, head + 1], ArrowUp: [entry - 1, head], ArrowDown: [entry + 1, head],
    Home: [entry, 0], End: [entry, Infinity],
  }[key];
  if (!next) return null;
  const row = clamp(next[0], 0, data.shapes.length - 1);
  return [row, clamp(next[1], 0, data.shapes[row][0] - 1)];
}

function onGridKey(state, event) {
  if (event.altKey) return;
  const chooses = event.key === "Enter" || event.key === " ";
  if (!chooses && (event.ctrlKey || event.metaKey)) return;
  const next = chooses || event.key === "Escape" ? null : goal(state, event.key);
  if (!chooses && event.key !== "Escape" && !next) return;
  event.preventDefault();
  state.hover = null;
  if (event.key === "Escape") state.cursor = null;
  else state.cursor = next ?? state.cursor ?? [state.data.entry, state.data.head];
  paintMarks(state);
  if (chooses) chooseHead(state, state.cursor, adds(event));
}

function onGridFocus(state) {
  if (!state.picture.matches(":focus-visible")) return;
  state.cursor ??= [state.data.entry, state.data.head];
  paintMarks(state);
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".overview", makeOverview, paintOverview);
  state.runs += 1;
  const optional = (table) => (table ? numbers(table) : null);
  state.data = { ...data, z: numbers(data.z), scores: optional(data.scores), shown: optional(data.shown) };
  if (state.cursor && !(state.cursor[1] < data.shapes[state.cursor[0]]?.[0])) state.cursor = null; // another model
  state.choose = (value) => setTriggerValue("choose", value);
  const { picture } = state;
  const layers = data.shapes.length;
  set(picture, "aria-label", `Every attention head${data.order ? `, sorted by ${data.scoreName || "score"}` : ""}: ` +
    `${layers} ${layers === 1 ? "layer" : "layers"}. Arrow keys move, Enter chooses, Shift and Enter adds or removes.`);
  picture.onmousemove = (event) => lookAt(state, headAt(state, event));
  picture.onmouseleave = () => lookAt(state, null);
  picture.onmousedown = (event) => event.shiftKey && event.preventDefault(); // it would select the page's text
  picture.onclick = (event) => {
    state.cursor = headAt(state, event) ?? state.cursor;
    chooseHead(state, headAt(state, event), adds(event));
  };
  picture.onkeydown = (event) => onGridKey(state, event);
  picture.onfocus = () => onGridFocus(state);
  picture.onblur = () => {
    state.cursor = null;
    paintMarks(state);
  };
  paintOverview(state);
  return unmount(state);
}
