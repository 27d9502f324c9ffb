// Shared by the components: Python puts this file in front of each of them (one module, one string).
// It knows nothing about heads and layers: arrays, theme, colour, canvas and text.

const GAP = -1; // Python writes "cannot look there" as −1, because Arrow would turn NaN into null
const mounted = new WeakMap(); // root node → its state, so that a rerun finds what it drew before

/** An Arrow table with one column "z" → the typed array under it. */
function numbers(table) {
  return table.getChild("z").toArray();
}

/** Whether two values that came from Python are the same: then nothing has to be painted again. */
function same(a, b) {
  if (a === b) return true;
  if (!ArrayBuffer.isView(a) || !ArrayBuffer.isView(b)) return JSON.stringify(a) === JSON.stringify(b);
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false; // every() takes ten times as long
  return true;
}

/** Whether what a picture depends on is as it was when it was painted last; remembers it. */
function unchanged(state, name, parts) {
  const before = state[name];
  state[name] = parts;
  return before !== undefined && parts.every((part, i) => same(part, before[i]));
}

/** The state of a component's root node, made on its first run; `paint(state)` runs again when the width changes. */
function mount(parentElement, selector, make, paint) {
  const root = parentElement.querySelector(selector);
  if (mounted.has(root)) return mounted.get(root);
  const state = { root, data: null, width: 0, paints: 0, runs: 0, ...make(root) };
  mounted.set(root, state);
  const repaint = () => state.data && state.width > 0 && paint(state);
  // Asking for the width in the middle of a rerun would lay out the whole page once more; the observer knows it.
  state.width = root.clientWidth;
  state.observer = new ResizeObserver(() => {
    if (root.clientWidth === state.width) return;
    state.width = root.clientWidth;
    repaint();
  });
  state.observer.observe(root);
  document.fonts?.ready.then(() => {
    state.fonts = true; // a canvas does not notice that its font has arrived
    repaint();
  });
  return state;
}

/** Says that a paint is on the screen: tests and slow eyes wait for these attributes. */
function painted(state, facts = {}) {
  state.paints += 1;
  Object.assign(state.root.dataset, facts, { painted: state.paints, runs: state.runs });
}

/** What the browser does when an element is dropped from the page for good. */
function unmount(state) {
  return () => state.observer.disconnect();
}

// ---- colour ----

const swatch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

const known = new Map(); // colours that were asked for before

/** Any CSS colour → [r, g, b]. */
function rgb(color) {
  if (!known.has(color)) {
    swatch.clearRect(0, 0, 1, 1);
    swatch.fillStyle = color;
    swatch.fillRect(0, 0, 1, 1);
    known.set(color, [...swatch.getImageData(0, 0, 1, 1).data.slice(0, 3)]);
  }
  return known.get(color);
}

const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;

/** `amount` of `over` on top of `under`, opaque. */
function mix(over, under, amount) {
  return under.map((low, i) => Math.round(low + (over[i] - low) * amount));
}

/** Relative luminance, as WCAG defines it. */
function luminance(color) {
  const [r, g, b] = color.map((channel) => {
    const c = channel / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

/** The theme's text colour where it can be read on `shade`, else black or white: one of them always reaches 4.5. */
function readable(text, shade) {
  if (contrast(text, shade) >= 4.6) return text;
  const [black, white] = [[0, 0, 0], [255, 255, 255]];
  return contrast(black, shade) > contrast(white, shade) ? black : white;
}

// Blues on a light page; Magma on a dark one, lifted at its lower end so that 0 is not the page's own black.
const BLUES = ["#f3f8fd", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b"];
const MAGMA = ["#25203a", "#3a1a5f", "#5c1a80", "#842681", "#b2357b", "#de4968", "#f8765c", "#febb81", "#fcfdbf"];
// A difference of two weights: blue for less, orange for more, the page's own grey between them; Okabe and Ito's hues.
const LESS_MORE = {
  light: ["#08457e", "#3b86c4", "#a9cde8", "#f4f4f2", "#f6c48f", "#dd7a1c", "#8a3f00"],
  dark: ["#a6d8ff", "#4a9be0", "#235a8c", "#24262c", "#84480f", "#e0801f", "#ffd39b"],
};

/** `count` colours × 3 bytes, evenly between the stops. */
function between(stops, count = 256) {
  const colors = stops.map(rgb);
  const table = new Uint8Array(count * 3);
  for (let i = 0; i < count; i += 1) {
    const at = (i / (count - 1)) * (colors.length - 1);
    const low = Math.min(Math.floor(at), colors.length - 2);
    table.set(mix(colors[low + 1], colors[low], at - low), i * 3);
  }
  return table;
}

/** 256 colours of three bytes → 256 numbers as they stand in the memory of an image, `amount` of them over the page. */
function inks(table, background, amount) {
  const colors = new Uint32Array(256);
  const bytes = new Uint8ClampedArray(colors.buffer);
  for (let i = 0; i < 256; i += 1) bytes.set([...mix(table.subarray(i * 3, i * 3 + 3), background, amount), 255], i * 4);
  return colors;
}

// Okabe and Ito's palette, each colour moved until it reads on its page and stays apart from the others in the three
// kinds of colour blindness too; the words name them where colour alone would.
const HEADS = {
  light: { blue: "#004490", orange: "#db7b07", green: "#01a876", purple: "#780e50",
           tan: "#ab793d", teal: "#067699", olive: "#414e1a", black: "#001313" },
  dark: { "light blue": "#9aaffb", red: "#ec4012", green: "#12c470", pink: "#bd5991",
          yellow: "#fec51a", violet: "#8667ec", cream: "#f7fcb9", white: "#d1f7ff" },
};

/** The colour and its name of the i-th of several heads, the same in every component. */
function palette(theme, i) {
  const all = Object.entries(HEADS[theme.dark ? "dark" : "light"]);
  const [name, color] = all[i % all.length];
  return { color: rgb(color), name };
}

const themes = new Map();

/** Colours and letters of the page around `node`, the same object for the same theme; Streamlit runs the component again
 *  when its theme changes. */
function readTheme(node) {
  const style = getComputedStyle(node);
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const ground = read("--st-background-color", "#ffffff");
  const ink = read("--st-text-color", "#1f2328");
  const accent = read("--st-primary-color", "");
  const font = read("--st-font", "sans-serif");
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
  const name = [ground, ink, accent, font, rem].join();
  if (!themes.has(name)) {
    const [background, text] = [rgb(ground), rgb(ink)];
    const dark = luminance(background) < 0.2;
    themes.set(name, {
      dark, background, text, font, rem,
      accent: rgb(accent || (dark ? "#7cc4f2" : "#0b5c8a")),
      muted: mix(text, background, 0.74), // still above 4.5 on both stock themes
      line: mix(text, background, 0.2),
      stops: dark ? MAGMA : BLUES,
      ramp: between(dark ? MAGMA : BLUES),
      lessMore: LESS_MORE[dark ? "dark" : "light"],
      difference: between(LESS_MORE[dark ? "dark" : "light"]),
    });
  }
  return themes.get(name);
}

// ---- scales ----

const DECADES = 4; // of a logarithmic scale

/** What a full colour stands for in each row: 1, the row's largest weight, or the largest of all. */
function fullColor(z, rows, per) {
  const most = new Float32Array(rows).fill(per === "row" ? 0 : 1);
  if (per === "one" || !rows) return most;
  const columns = z.length / rows;
  for (let i = 0; per === "row" && i < z.length; i += 1) {
    const q = Math.floor(i / columns);
    if (z[i] > most[q]) most[q] = z[i];
  }
  if (per === "head") most.fill(z.reduce((largest, weight) => Math.max(largest, weight), 0));
  return most.map((weight) => (weight > 0 ? weight : 1));
}

/** A weight → how strongly it is drawn, 0 to 1. */
function strength(weight, full, log) {
  if (!(weight > 0)) return 0;
  return clamp(log ? 1 + Math.log10(weight / full) / DECADES : weight / full, 0, 1);
}

/** 0.1 → "10%", 0.0001 → "0.01%": no more digits than it needs. */
const short = (weight) => `${Number((weight * 100).toPrecision(3))}%`;

// ---- canvas ----

/** Sizes a canvas in CSS pixels on any display and returns its cleared pen. */
function fitCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w) canvas.width = w;
  if (canvas.height !== h) canvas.height = h;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

/** A frame that shows on any colour: a band of the page's background under the line itself; none around specks. */
function frame(pen, x, y, width, height, color, thickness, background, band = 3) {
  pen.lineJoin = "round";
  for (const [stroke, extra] of band ? [[background, band], [color, 0]] : [[color, 0]]) {
    pen.strokeStyle = css(stroke);
    pen.lineWidth = thickness + extra;
    pen.strokeRect(x, y, width, height);
  }
}

// ---- text ----

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff]/;

/** What can be drawn on one line: a canvas shows line breaks and tabs as nothing. */
function oneLine(token) {
  return token.replace(/\r\n?|\n/g, "⏎").replace(/\t/g, "⇥");
}

/** A token in quotes; right-to-left letters are kept from turning the rest of the sentence around. */
function quoted(token) {
  return RIGHT_TO_LEFT.test(token) ? `“\u2068${oneLine(token)}\u2069”` : `“${oneLine(token)}”`;
}

/** The longest beginning of `text` that fits, with … where something was left out. */
function shorten(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  const letters = Array.from(text.slice(0, 400)); // code points: an emoji is never cut in half
  let [fits, over] = [0, letters.length];
  while (over - fits > 1) {
    const middle = (fits + over) >> 1;
    if (pen.measureText(`${letters.slice(0, middle).join("")}…`).width <= room) fits = middle;
    else over = middle;
  }
  return `${letters.slice(0, fits).join("")}…`;
}

const percent = (weight) => `${(weight * 100).toFixed(1)}%`;
const count = (n) => n.toLocaleString("en-US");

/** 0.58123 → "58.1% (0.58123)"; a gap says why there is no number. */
function exactly(weight) {
  return weight < 0 ? "cannot look there" : `${percent(weight)} (${weight.toFixed(5)})`;
}

/** "a", "b" and "c" */
function listed(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

// ---- labels ----

/** Letters for a row of labels `pitch` pixels apart: their size, and how many labels one shown label takes. */
function letters(pitch, rem) {
  const size = Math.round(clamp(pitch * 0.8, rem * 0.88, rem * 1.06));
  return { size, every: Math.max(1, Math.ceil((size * 1.18) / pitch)) };
}

/** Each token as it fits beside a picture; repeated tokens are measured once. */
function fitLabels(pen, tokens, room) {
  const fitted = new Map();
  return tokens.map((token) => {
    if (!fitted.has(token)) {
      const text = shorten(pen, oneLine(token), room);
      fitted.set(token, { text, width: pen.measureText(text).width });
    }
    return fitted.get(token);
  });
}

const widest = (labels) => labels.reduce((most, label) => Math.max(most, label.width), 0);

/** The labels that have room: those of `kept` first, then every n-th that touches none of them. */
function shownLabels(total, every, kept) {
  const shown = [];
  const free = (i) => shown.every((other) => Math.abs(i - other) >= every);
  for (const i of kept) if (free(i)) shown.push(i);
  const rest = [];
  for (let i = 0; i < total; i += every) if (free(i)) rest.push(i);
  return shown.concat(rest);
}

/** Writes only what changed, so that a live region does not repeat itself. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The same for an attribute: setting one again would make the browser look at its style again. */
function set(node, name, value) {
  if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** A new element with a class, at the end of its parent. */
function child(parent, tag, name) {
  const node = parent.appendChild(document.createElement(tag));
  if (name) node.className = name;
  return node;
}

/** The bubble near the pointer, kept inside the component's width. */
function followPointer(state, event) {
  const { tip, root } = state;
  tip.hidden = !state.hover;
  if (tip.hidden) return;
  const box = root.getBoundingClientRect();
  const left = clamp(event.clientX - box.left + 14, 0, Math.max(0, box.width - tip.offsetWidth));
  const over = event.clientY - box.top - tip.offsetHeight - 14;
  tip.style.transform = `translate(${left}px, ${over >= 0 ? over : event.clientY - box.top + 22}px)`;
}

/** As many of `list` as wanted, old ones kept so that a rerun does not lose the focus; `create(i)` returns {node, …}. */
function keep(list, wanted, create) {
  while (list.length > wanted) list.pop().node.remove();
  while (list.length < wanted) list.push(create(list.length));
}

/** Whether a click or a key adds to what is chosen instead of replacing it. */
const adds = (event) => event.ctrlKey || event.metaKey || event.shiftKey;

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
