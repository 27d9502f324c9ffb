// Every head of the model as a small picture: a row per layer, a column per head, one canvas.
// data: {z (all thumbnails, one after the other) uint8, shapes: [[heads, rows, columns], …], names, entry, head}.
// Trigger "choose": {entry, head}.

const TALLEST = 660; // pixels for the whole grid: 30 layers still fit on one screen
const LARGEST = 96;

function makeOverview(root) {
  const find = (name) => root.querySelector(name);
  return { picture: find("canvas.picture"), mark: find("canvas.mark"), status: find(".status"),
           hover: null, cursor: null, choose: () => {} };
}

/** "layer 3" everywhere → "3" beside the picture; names that say more (encoder, cross) stay whole. */
function shortNames(names) {
  const parts = names.map((name) => /^(.*\D)(\d+)$/.exec(name));
  const alike = parts.every((part) => part && part[1] === parts[0][1]);
  return { caption: alike ? `${parts[0][1].trim()} ↓` : "", labels: alike ? parts.map((part) => part[2]) : names };
}

/** Where the grid lies: everything in CSS pixels. */
function planGrid(pen, data, width, theme) {
  const size = Math.round(theme.rem * 0.9);
  pen.font = `700 ${size}px ${theme.font}`; // the chosen one is bold
  const { caption, labels } = shortNames(data.names);
  const widest = Math.max(...labels.map((label) => pen.measureText(label).width));
  const left = Math.ceil(Math.min(Math.max(widest, pen.measureText(caption).width) + 10, width * 0.4));
  const top = size * 2 + 8; // one line for the caption, one for the head numbers
  const heads = Math.max(...data.shapes.map((shape) => shape[0]));
  const room = Math.min((width - left - 4) / heads, (TALLEST - top) / data.shapes.length, LARGEST);
  const pitch = room >= 4 ? Math.floor(room) : room;
  const gap = pitch >= 60 ? 6 : pitch >= 30 ? 4 : 2;
  return { size, caption, labels, left, top, heads, pitch, gap, cell: pitch - gap,
           width, height: top + pitch * data.shapes.length + 4 };
}

/** One thumbnail → an image no larger than its cell: the largest of each block, so that a thin diagonal survives. */
function thumbnail(z, offset, rows, columns, pixels, colors) {
  const [down, across] = [rows, columns].map((n) => Math.max(1, Math.ceil(n / Math.max(pixels, 1))));
  const [height, width] = [Math.ceil(rows / down), Math.ceil(columns / across)];
  const image = new ImageData(width, height);
  const most = new Uint8Array(width * height);
  for (let q = 0, i = offset; q < rows; q += 1) {
    const line = Math.floor(q / down) * width;
    for (let k = 0; k < columns; k += 1, i += 1) {
      const at = line + Math.floor(k / across);
      if (z[i] > most[at]) most[at] = z[i];
    }
  }
  for (let at = 0; at < most.length; at += 1) {
    image.data.set([colors[most[at] * 3], colors[most[at] * 3 + 1], colors[most[at] * 3 + 2], 255], at * 4);
  }
  return image;
}

const corner = (grid, entry, head) => [grid.left + head * grid.pitch, grid.top + entry * grid.pitch];

function paintThumbnails(state, pen, theme) {
  const { data, grid } = state;
  const stamp = document.createElement("canvas");
  const ink = stamp.getContext("2d");
  const pixels = Math.round(grid.cell * (window.devicePixelRatio || 1));
  pen.imageSmoothingEnabled = false;
  pen.lineWidth = 1;
  pen.strokeStyle = css(mix(theme.text, theme.background, grid.pitch < 30 ? 0.12 : 0.2));
  let offset = 0;
  data.shapes.forEach(([heads, rows, columns], entry) => {
    for (let head = 0; head < heads; head += 1, offset += rows * columns) {
      const image = thumbnail(data.z, offset, rows, columns, pixels, theme.ramp);
      [stamp.width, stamp.height] = [image.width, image.height];
      ink.putImageData(image, 0, 0);
      const [x, y] = corner(grid, entry, head);
      pen.drawImage(stamp, x, y, grid.cell, grid.cell);
      pen.strokeRect(x - 0.5, y - 0.5, grid.cell + 1, grid.cell + 1);
    }
  });
}

/** Numbers at the edges; where they would touch, only every second, third … */
function paintNumbers(state, pen, theme) {
  const { grid, data } = state;
  pen.font = `${grid.size}px ${theme.font}`;
  pen.textBaseline = "middle";
  pen.textAlign = "center";
  const write = (text, x, y, chosen) => {
    pen.font = `${chosen ? "700 " : ""}${grid.size}px ${theme.font}`;
    pen.fillStyle = css(chosen ? theme.accent : theme.muted);
    pen.fillText(text, x, y);
  };
  const widest = pen.measureText(String(grid.heads - 1)).width + 4;
  const everyHead = Math.ceil(widest / grid.pitch);
  for (let head = 0; head < grid.heads; head += everyHead) {
    write(String(head), grid.left + head * grid.pitch + grid.cell / 2, grid.top - 4 - grid.size / 2, head === data.head);
  }
  pen.textAlign = "right";
  const everyLayer = Math.ceil((grid.size + 1) / grid.pitch);
  for (let entry = 0; entry < grid.labels.length; entry += everyLayer) {
    pen.font = `700 ${grid.size}px ${theme.font}`;
    const label = shorten(pen, grid.labels[entry], grid.left - 8);
    write(label, grid.left - 8, grid.top + entry * grid.pitch + grid.cell / 2, entry === data.entry);
  }
  write(grid.caption, grid.left - 8, grid.top - 4 - grid.size / 2, false);
  pen.textAlign = "left";
  write("head →", grid.left, grid.size / 2 + 1, false);
}

/** What changes without new data: the chosen head, the one under the pointer, the cursor. */
function paintMarks(state) {
  const { data, grid, theme } = state;
  const pen = fitCanvas(state.mark, grid.width, grid.height);
  const around = ([entry, head], color, thick) => {
    const [x, y] = corner(grid, entry, head);
    const out = thick / 2; // outside of the picture, in the gap
    frame(pen, x - out, y - out, grid.cell + 2 * out, grid.cell + 2 * out, color, thick, theme.background);
  };
  around([data.entry, data.head], theme.accent, grid.pitch >= 40 ? 5 : 3);
  const looked = state.hover ?? state.cursor;
  if (looked) around(looked, theme.text, 2);
  say(state.status, headName(state, looked ?? [data.entry, data.head]));
}

function headName(state, [entry, head]) {
  const { data } = state;
  const chosen = entry === data.entry && head === data.head;
  return `${data.names[entry]}, head ${head}${chosen ? ", chosen" : ""}`;
}

function paintOverview(state) {
  const { root, data } = state;
  state.width = root.clientWidth;
  if (!state.width || !data.shapes.length) return;
  const theme = (state.theme = readTheme(root));
  state.grid = planGrid(state.picture.getContext("2d"), data, state.width, theme);
  const pen = fitCanvas(state.picture, state.grid.width, state.grid.height);
  paintThumbnails(state, pen, theme);
  paintNumbers(state, pen, theme);
  paintMarks(state);
  painted(state, { entry: data.entry, head: data.head });
}

/** The head under the pointer, or null between and beside them. */
function headAt(state, event) {
  const { grid, data } = state;
  const head = Math.floor((event.offsetX - grid.left) / grid.pitch);
  const entry = Math.floor((event.offsetY - grid.top) / grid.pitch);
  return entry >= 0 && entry < data.shapes.length && head >= 0 && head < data.shapes[entry][0] ? [entry, head] : null;
}

function lookAt(state, hover) {
  if (String(hover) === String(state.hover)) return;
  state.hover = hover;
  paintMarks(state);
}

function chooseHead(state, place) {
  if (!place) return;
  const [entry, head] = place;
  if (entry === state.data.entry && head === state.data.head) return;
  Object.assign(state.data, { entry, head }); // shown at once; the page's answer paints it again
  paintOverview(state);
  state.choose({ entry, head });
}

function onGridKey(state, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { data } = state;
  const [entry, head] = state.cursor ?? [data.entry, data.head];
  const goal = {
    ArrowLeft: [entry, head - 1], ArrowRight: [entry, head + 1], ArrowUp: [entry - 1, head], ArrowDown: [entry + 1, head],
    Home: [entry, 0], End: [entry, Infinity], Enter: [entry, head], " ": [entry, head], Escape: null,
  }[event.key];
  if (goal === undefined) return;
  event.preventDefault();
  state.hover = null;
  if (goal) {
    const row = clamp(goal[0], 0, data.shapes.length - 1);
    state.cursor = [row, clamp(goal[1], 0, data.shapes[row][0] - 1)];
  } else state.cursor = null;
  paintMarks(state);
  if (event.key === "Enter" || event.key === " ") chooseHead(state, state.cursor);
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
  state.data = { ...data, z: numbers(data.z) };
  if (state.cursor && !(state.cursor[1] < data.shapes[state.cursor[0]]?.[0])) state.cursor = null; // another model
  state.choose = (value) => setTriggerValue("choose", value);
  const { picture } = state;
  const layers = data.shapes.length;
  picture.setAttribute("aria-label", `Every attention head: ${layers} ${layers === 1 ? "layer" : "layers"}. ` +
    "Arrow keys move, Enter chooses.");
  picture.onmousemove = (event) => lookAt(state, headAt(state, event));
  picture.onmouseleave = () => lookAt(state, null);
  picture.onclick = (event) => {
    state.cursor = headAt(state, event) ?? state.cursor;
    chooseHead(state, headAt(state, event));
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
