// The rows of all layers after one decode step: a small picture, K beside V, of every layer and key-value head.
// data: {z uint8, 0 for −full, 255 for +full: of each layer all heads' K, then all heads' V,
//        layers: [{name, heads, rows, sides: [[lines, columns] of K, of V?], note}], most: rows at the end of the run,
//        new: rows at the end that this step computed, layer, head, label}.
// Trigger "choose": {layer, head}. A layer without rows has no heads and shows its note.

const TALLEST_STACK = 36; // rem
const LARGEST_SIDE = 104; // pixels of one side of a picture

function makeStack(root) {
  const find = (name) => root.querySelector(name);
  return { picture: find("canvas.picture"), mark: find("canvas.mark"), labels: find(".labels"), status: find(".status"),
           meaning: find(".meaning"), names: [], notes: [], hover: null, cursor: null, choose: () => {} };
}

// ---- where things lie, in CSS pixels ----

const withRows = (layer) => layer.heads > 0;

/** Boxes of layers in `columns`, a picture's side as large as fits: names over the boxes, or left of them. */
function fitBoxes(data, width, columns, { name, above, text, tallest }) {
  const lines = Math.ceil(data.layers.length / columns);
  const heads = Math.max(1, ...data.layers.map((layer) => layer.heads));
  const sides = Math.max(1, ...data.layers.map((layer) => layer.sides.length));
  const [across, down, between] = [24, above ? 12 : 7, heads > 4 ? 5 : 8];
  const room = (width - 6 - across * (columns - 1)) / columns - (above ? 0 : name);
  const wide = Math.floor(((room + between) / heads - between - (sides - 1)) / sides);
  const high = Math.floor((tallest - 8 - down * (lines - 1)) / lines - (above ? text : 0));
  const side = Math.min(wide, high, LARGEST_SIDE);
  const head = side * sides + sides - 1;
  const inside = Math.max(heads * (head + between) - between, above ? name : 0);
  return { columns, lines, above, side, head, between, inside, left: above ? 0 : name, text: above ? text : 0,
           pitch: inside + (above ? 0 : name) + across, step: side + (above ? text : 0) + down };
}

/** The arrangement with the largest pictures; of equal ones that with the most columns. */
function planStack(state) {
  const { data, theme, width } = state;
  swatch.font = `700 ${theme.rem}px ${theme.font}`;
  const name = Math.ceil(data.layers.reduce((most, layer) => Math.max(most, swatch.measureText(layer.name).width), 0)) + 10;
  const text = Math.round(theme.rem * 1.3);
  let best = null;
  for (let columns = 1; columns <= data.layers.length; columns += 1) {
    for (const above of [true, false]) {
      const plan = fitBoxes(data, width, columns, { name, above, text, tallest: TALLEST_STACK * theme.rem });
      if (plan.pitch * columns - 24 > width - 6 && best) continue;
      if (!best || plan.side >= best.side) best = plan;
    }
  }
  const side = Math.max(best.side, 4);
  return { ...best, side, width, height: best.step * best.lines + 8, places: placesOf(data, best) };
}

/** One entry a picture: {layer, head, x, y, offsets of its sides, shapes}. */
function placesOf(data, plan) {
  const places = [];
  let offset = 0;
  data.layers.forEach((layer, at) => {
    const [x0, y] = cornerOf(plan, at);
    const starts = layer.sides.map(([lines, columns]) => {
      const start = offset;
      offset += layer.heads * lines * columns;
      return start;
    });
    for (let head = 0; head < layer.heads; head += 1) {
      const sides = layer.sides.map(([lines, columns], i) => ({ lines, columns, offset: starts[i] + head * lines * columns }));
      places.push({ layer: at, head, x: x0 + head * (plan.head + plan.between), y, sides });
    }
    if (!withRows(layer)) places.push({ layer: at, head: null, x: x0, y, sides: [] });
  });
  return places;
}

/** Where the pictures of a layer begin. */
function cornerOf({ columns, pitch, step, left, text }, layer) {
  return [3 + (layer % columns) * pitch + left, 4 + Math.floor(layer / columns) * step + text];
}

const widthOf = (plan, place) => (place.head === null ? plan.inside : plan.head);

function placeOf({ plan }, [layer, head]) {
  return plan.places.find((place) => place.layer === layer && (place.head === head || place.head === null));
}

/** The part of a picture's height that its rows fill. */
const filled = (data, layer, side) => Math.max(1, Math.round((side * data.layers[layer].rows) / data.most));

// ---- the pictures ----

/** One side: every line and column at its place, so that lines that are there stay where they are. */
function stampSide(memory, width, box, side, z, colors) {
  for (let y = 0; y < box.height; y += 1) {
    const line = side.offset + Math.min(Math.floor((y * side.lines) / box.height), side.lines - 1) * side.columns;
    for (let x = 0; x < box.width; x += 1) {
      memory[(box.y + y) * width + box.x + x] = colors[z[line + Math.floor((x * side.columns) / box.width)]];
    }
  }
}

function paintPictures(state, pen) {
  const { data, plan, theme, picture } = state;
  const ratio = picture.width / plan.width;
  const image = new ImageData(picture.width, picture.height);
  const memory = new Uint32Array(image.data.buffer);
  const colors = inks(theme.difference, theme.background, 1);
  for (const place of plan.places) {
    place.sides.forEach((side, i) => {
      const x = Math.round((place.x + i * (plan.side + 1)) * ratio);
      const box = { x, y: Math.round(place.y * ratio), width: Math.round(plan.side * ratio),
                    height: Math.round(filled(data, place.layer, plan.side) * ratio) };
      stampSide(memory, picture.width, box, side, data.z, colors);
    });
  }
  pen.putImageData(image, 0, 0);
  pen.lineWidth = 1;
  pen.strokeStyle = css(mix(theme.text, theme.background, 0.22));
  for (const place of plan.places) {
    if (place.head === null) continue;
    pen.strokeRect(place.x - 0.5, place.y - 0.5, plan.head + 1, plan.side + 1);
    paintNew(pen, data, plan, place, theme);
  }
}

/** A line under the newest row, and at the left of all that are new. */
function paintNew(pen, data, plan, place, theme) {
  const { rows } = data.layers[place.layer];
  const bottom = filled(data, place.layer, plan.side);
  const high = Math.max(3, (bottom * Math.min(data.new, rows)) / rows);
  pen.fillStyle = css(theme.accent);
  pen.fillRect(place.x, place.y + bottom - (bottom === plan.side ? 1 : 0), plan.head, 2);
  pen.fillRect(place.x - 3, place.y + bottom - high, 3, high + 1);
}

/** Names of layers, and what stands where one keeps no rows. */
function paintNames(state) {
  const { data, plan, theme, labels, names, notes } = state;
  keep(names, data.layers.length, () => ({ node: child(labels, "span", "name") }));
  data.layers.forEach((layer, at) => {
    const [x, y] = cornerOf(plan, at);
    const { node } = names[at];
    say(node, layer.name);
    node.classList.toggle("chosen", at === data.layer);
    const line = theme.rem * 1.25;
    node.style.cssText = plan.above ? `left: ${x}px; top: ${y - plan.text}px; width: ${plan.inside}px`
      : `left: ${x - plan.left}px; top: ${y + (plan.side - line) / 2}px; width: ${plan.left - 8}px`;
  });
  const empty = plan.places.filter((place) => place.head === null);
  keep(notes, empty.length, () => ({ node: child(labels, "span", "none") }));
  empty.forEach((place, i) => {
    say(notes[i].node, data.layers[place.layer].note);
    notes[i].node.style.cssText = `left: ${place.x}px; top: ${place.y}px; width: ${plan.inside}px; height: ${plan.side}px`;
  });
}

/** The chosen one, and the one that is looked at. */
function paintMarks(state) {
  const { data, plan, theme } = state;
  if (!plan) return; // not painted yet
  const pen = fitCanvas(state.mark, plan.width, plan.height);
  const around = (place, color, thick) => {
    if (!place) return;
    const [width, height] = [widthOf(plan, place) + thick, plan.side + thick];
    frame(pen, place.x - thick / 2, place.y - thick / 2, width, height, color, thick, theme.background);
  };
  const chosen = [data.layer, data.head];
  around(placeOf(state, chosen), theme.accent, 4);
  const looked = state.hover ?? state.cursor;
  if (looked) around(placeOf(state, looked), theme.text, 2);
  say(state.status, wordsOf(state, looked ?? chosen));
}

/** Whether there is such a picture; head null: of a layer without rows. */
const isThere = ({ layers }, [layer, head]) => (head === null ? layers[layer]?.heads === 0 : head < (layers[layer]?.heads ?? 0));

function wordsOf({ data }, [layer, head]) {
  const { name, heads, rows, note } = data.layers[layer] ?? {};
  if (!heads) return name ? `${name}: ${note}` : "";
  const made = Math.min(data.new, rows);
  const split = made === rows ? "all computed in this step" : `${count(rows - made)} reused, ${count(made)} computed`;
  const chosen = layer === data.layer && head === data.head ? ", chosen" : "";
  return `${name}, key-value head ${head}: ${count(rows)} ${rows === 1 ? "row" : "rows"}, ${split}${chosen}`;
}

function paintStack(state) {
  const { root, data } = state;
  if (!state.width || !data.layers.length) return;
  const began = performance.now();
  const theme = (state.theme = readTheme(root));
  root.style.setProperty("--muted", css(theme.muted));
  const size = [state.width, window.devicePixelRatio, state.fonts];
  if (!unchanged(state, "before", [theme, size, data.z, data.layers, data.most, data.new])) {
    state.plan = planStack(state);
    paintPictures(state, fitCanvas(state.picture, state.plan.width, state.plan.height));
    state.pictures = (state.pictures ?? 0) + 1;
  }
  paintNames(state);
  paintMarks(state);
  const values = data.layers.some((layer) => layer.sides.length > 1) ? "keys on the left, values on the right" : "keys";
  say(state.meaning, `Each picture is one key-value head: ${values}, a line for each token, the newest at the bottom.`);
  painted(state, { layer: data.layer, head: data.head, pictures: state.pictures, paintMs: (performance.now() - began).toFixed(1) });
}

// ---- looking and choosing ----

function stackAt(state, event) {
  const { plan } = state;
  const { offsetX: x, offsetY: y } = event;
  const found = plan?.places.find((place) => {
    const [left, right] = [place.x - plan.between / 2, place.x + widthOf(plan, place) + plan.between / 2];
    return x >= left && x < right && y >= place.y - plan.text && y <= place.y + plan.side;
  });
  return found ? [found.layer, found.head] : null;
}

function lookAt(state, hover) {
  if (String(hover) === String(state.hover)) return;
  state.hover = hover;
  paintMarks(state);
}

function choosePicture(state, place) {
  if (!place || place[1] === null) return;
  const [layer, head] = place;
  if (layer === state.data.layer && head === state.data.head) return;
  Object.assign(state.data, { layer, head }); // shown at once; the page's answer paints it again
  paintStack(state);
  state.choose({ layer, head });
}

/** Where an arrow key leads: from picture to picture along a line, from layer to layer up and down. */
function goalOf(state, key) {
  const { plan, data } = state;
  const [layer, head] = state.cursor ?? [data.layer, data.head];
  const here = plan.places.indexOf(placeOf(state, [layer, head]));
  const along = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: plan.places.length - 1 }[key];
  if (along !== undefined) {
    const place = plan.places[clamp(along, 0, plan.places.length - 1)];
    return [place.layer, place.head];
  }
  const down = { ArrowUp: -plan.columns, ArrowDown: plan.columns }[key];
  if (!down) return null;
  const next = data.layers[layer + down] ? layer + down : layer;
  return [next, withRows(data.layers[next]) ? clamp(head ?? 0, 0, data.layers[next].heads - 1) : null];
}

function onKey(state, event) {
  if (!state.plan || event.altKey || event.ctrlKey || event.metaKey) return;
  const chooses = event.key === "Enter" || event.key === " ";
  const next = chooses || event.key === "Escape" ? null : goalOf(state, event.key);
  if (!chooses && event.key !== "Escape" && !next) return;
  event.preventDefault();
  event.stopPropagation(); // the page has shortcuts of its own on these keys
  state.hover = null;
  state.cursor = event.key === "Escape" ? null : (next ?? state.cursor ?? [state.data.layer, state.data.head]);
  if (chooses) choosePicture(state, state.cursor);
  paintMarks(state);
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".stack-view", makeStack, paintStack);
  state.runs += 1;
  state.data = { ...data, z: numbers(data.z) };
  if (state.cursor && !isThere(data, state.cursor)) state.cursor = null; // another model
  state.choose = (value) => setTriggerValue("choose", value);
  const { picture } = state;
  const layers = `${data.layers.length} ${data.layers.length === 1 ? "layer" : "layers"}`;
  const about = `${data.label || "The rows of every layer"}: ${layers}`;
  set(picture, "aria-label", `${about}. Arrow keys move, Enter chooses a layer and key-value head.`);
  picture.onmousemove = (event) => lookAt(state, stackAt(state, event));
  picture.onmouseleave = () => lookAt(state, null);
  picture.onclick = (event) => {
    state.cursor = stackAt(state, event);
    choosePicture(state, state.cursor);
    paintMarks(state);
  };
  picture.onkeydown = (event) => onKey(state, event);
  picture.onfocus = () => {
    if (!picture.matches(":focus-visible")) return;
    state.cursor ??= [data.layer, data.head];
    paintMarks(state);
  };
  picture.onblur = () => {
    state.cursor = null;
    paintMarks(state);
  };
  paintStack(state);
  return unmount(state);
}
