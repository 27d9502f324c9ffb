// Shared by the three components: Python puts this file in front of each of them (one module, one string).
// It knows nothing about attention: arrays, theme, canvas and text.

const GAP = -1; // Python writes "cannot look there" as −1, because Arrow would turn NaN into null
const mounted = new WeakMap(); // root node → its state, so that a rerun finds what it drew before

/** An Arrow table with one column "z" → the typed array under it. */
function numbers(table) {
  return table.getChild("z").toArray();
}

/** The state of a component's root node, made on its first run; `paint(state)` runs again when the width changes. */
function mount(parentElement, selector, make, paint) {
  const root = parentElement.querySelector(selector);
  if (mounted.has(root)) return mounted.get(root);
  const state = { root, data: null, width: 0, paints: 0, runs: 0, ...make(root) };
  mounted.set(root, state);
  const repaint = () => state.data && root.clientWidth > 0 && paint(state);
  state.observer = new ResizeObserver(() => root.clientWidth !== state.width && repaint());
  state.observer.observe(root);
  document.fonts?.ready.then(repaint); // a canvas does not notice that its font has arrived
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

/** Any CSS colour → [r, g, b]. */
function rgb(color) {
  swatch.clearRect(0, 0, 1, 1);
  swatch.fillStyle = color;
  swatch.fillRect(0, 0, 1, 1);
  return [...swatch.getImageData(0, 0, 1, 1).data.slice(0, 3)];
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
const ramps = {};

/** 256 colours × 3 bytes, linear from weight 0 to weight 1. */
function ramp(dark) {
  const name = dark ? "dark" : "light";
  if (ramps[name]) return ramps[name];
  const stops = (dark ? MAGMA : BLUES).map(rgb);
  const table = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i += 1) {
    const at = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    table.set(mix(stops[low + 1], stops[low], at - low), i * 3);
  }
  return (ramps[name] = table);
}

/** Colours and letters of the page around `node`; Streamlit runs the component again when its theme changes. */
function readTheme(node) {
  const style = getComputedStyle(node);
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const background = rgb(read("--st-background-color", "#ffffff"));
  const text = rgb(read("--st-text-color", "#1f2328"));
  const dark = luminance(background) < 0.2;
  return {
    dark,
    background,
    text,
    accent: rgb(read("--st-primary-color", dark ? "#7cc4f2" : "#0b5c8a")),
    muted: mix(text, background, 0.74), // still above 4.5 on both stock themes
    line: mix(text, background, 0.2),
    font: read("--st-font", "sans-serif"),
    rem: parseFloat(getComputedStyle(document.documentElement).fontSize) || 16,
    ramp: ramp(dark),
    stops: dark ? MAGMA : BLUES,
  };
}

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

/** Writes only what changed, so that a live region does not repeat itself. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
