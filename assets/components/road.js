// The stations of the road to the Transformer, a card each: what it says, and which letters each sound looks at.
// data: {z (all weights, station by station) float32 with −1 for gaps, letters, cards: [{station, title, year, ipa, sounds:
//        [[name, ipa], …], rows: how many have weights, centres: [letter, …] or null, bell: whether a Gaussian is over the
//        window, empty: what stands where there are no weights, head, heads: [[value, name], …]}], chosen: {station, sound,
//        letter}}. The last letter is the end of the word.
// Trigger "choose": {station, sound, letter}, null where the station has no weights; or {head}.

const MOST_COLUMNS = 4;
const LETTER = 14; // pixels that a letter needs at least
const APART = 4; // pixels between the last letter and the word “end”, which is wider than a letter
const REACH = 2; // letters on both sides of a window's middle

function makeRoad(root) {
  const find = (name) => root.querySelector(name);
  return { cardsNode: find(".cards"), status: find(".status"), tip: find(".tip"), cards: [], hover: null, cursor: null,
           choose: () => {} };
}

function makeCard(state, parent) {
  const node = child(parent, "section", "card");
  const line = child(node, "div", "line");
  const name = child(line, "p", "name");
  const card = { node, year: child(name, "span", "year"), title: child(name, "span", "title") };
  const spoken = child(node, "p", "spoken");
  Object.assign(card, { ipa: child(spoken, "bdi", "ipa"), arpabet: child(spoken, "bdi", "arpabet") });
  card.which = child(line, "label", "which");
  child(card.which, "span", "").textContent = "head";
  card.select = child(card.which, "select", "");
  card.empty = child(node, "button", "empty");
  card.empty.type = "button";
  card.stack = child(node, "div", "stack");
  card.picture = child(card.stack, "canvas", "picture");
  for (const [key, value] of Object.entries({ tabindex: 0, role: "application", "aria-roledescription": "alignment",
                                              "aria-describedby": "status" })) set(card.picture, key, value);
  const at = () => state.cards.indexOf(card);
  card.select.onchange = () => state.choose({ head: card.select.value });
  card.empty.onclick = () => chooseCell(state, { card: at(), sound: null, letter: null });
  card.picture.onmousemove = (event) => lookAt(state, cellAt(state, at(), event), event);
  card.picture.onmouseleave = () => lookAt(state, null);
  card.picture.onclick = (event) => chooseCell(state, cellAt(state, at(), event));
  card.picture.onkeydown = (event) => onCellKey(state, at(), event);
  card.picture.onfocus = () => card.picture.matches(":focus-visible") && moveTo(state, startOf(state, at()));
  card.picture.onblur = () => moveTo(state, null);
  return card;
}

// ---- where things lie, in CSS pixels ----

/** As many cards beside each other as leave each letter its room. */
function planRoad(state) {
  const { data, theme, width } = state;
  const pen = (state.pen ??= document.createElement("canvas").getContext("2d"));
  const [large, small] = [Math.round(theme.rem * 1.05), Math.round(theme.rem * 0.82)];
  pen.font = `${large}px ${theme.font}`;
  const sounds = data.cards.flatMap(({ sounds }) => sounds);
  const ipa = Math.max(...sounds.map(([, text]) => pen.measureText(text).width));
  pen.font = `${small}px ${theme.font}`;
  const names = Math.max(...sounds.map(([name]) => pen.measureText(name).width));
  const end = pen.measureText("end").width;
  const left = Math.ceil(ipa + names + 16);
  const around = 1.5 * theme.rem + 2; // a card's padding and border
  const needed = left + data.letters.length * LETTER + around;
  const columns = clamp(Math.floor((width + theme.rem) / (needed + theme.rem)), 1, MOST_COLUMNS);
  const inner = (width - (columns - 1) * theme.rem) / columns - around;
  const pitch = (inner - left - Math.max(0, end + APART - LETTER) - 2) / data.letters.length;
  const row = Math.round(clamp(pitch, theme.rem * 1.35, theme.rem * 1.8));
  return { columns, left, pitch, row, top: Math.round(theme.rem * 1.5), large, small, ipa, width: inner,
           letter: Math.min(Math.round(theme.rem * 1.1), Math.floor(pitch * 0.95)) };
}

/** The weights of a card begin there in z. */
function offsets(data) {
  let at = 0;
  return data.cards.map(({ rows }) => {
    const here = at;
    at += rows * data.letters.length;
    return here;
  });
}

const weightAt = ({ data, from }, { card, sound, letter }) => data.z[from[card] + sound * data.letters.length + letter];

function cellAt({ data, plan }, card, event) {
  const letter = Math.floor((event.offsetX - plan.left) / plan.pitch);
  const sound = Math.floor((event.offsetY - plan.top) / plan.row);
  const inside = letter >= 0 && letter < data.letters.length && sound >= 0 && sound < data.cards[card].rows;
  return inside ? { card, sound, letter } : null;
}

const like = (a, b) => a === b || Boolean(a && b && a.card === b.card && a.sound === b.sound && a.letter === b.letter);

function chosenCell({ data }) {
  const card = data.cards.findIndex(({ station }) => station === data.chosen.station);
  return { card, sound: data.chosen.sound, letter: data.chosen.letter };
}

// ---- drawing ----

function paintLabels(state, pen, at, marked) {
  const { data, plan, theme } = state;
  const last = data.letters.length - 1;
  pen.textBaseline = "middle";
  data.letters.forEach((letter, i) => {
    const here = marked?.letter === i;
    pen.font = `${here ? 700 : 400} ${i === last ? plan.small : plan.letter}px ${theme.font}`;
    pen.fillStyle = css(here ? theme.accent : i === last ? theme.muted : theme.text);
    const wide = pen.measureText(letter).width;
    const x = plan.left + i * plan.pitch + Math.max(i === last ? APART : 0, (plan.pitch - wide) / 2);
    pen.fillText(letter, x, plan.top / 2);
  });
  data.cards[at].sounds.slice(0, data.cards[at].rows).forEach(([name, ipa], i) => {
    const y = plan.top + (i + 0.5) * plan.row;
    const here = marked?.sound === i;
    pen.font = `${here ? 700 : 400} ${plan.large}px ${theme.font}`;
    pen.fillStyle = css(here ? theme.accent : theme.text);
    pen.fillText(ipa, 0, y);
    pen.font = `${plan.small}px ${theme.font}`;
    pen.fillStyle = css(theme.muted);
    pen.fillText(name, ipa ? plan.ipa + 8 : 0, y);
  });
}

function paintCells(state, pen, at) {
  const { data, plan, theme } = state;
  const gap = plan.pitch >= 14 ? 1 : 0;
  for (let sound = 0; sound < data.cards[at].rows; sound += 1) {
    for (let letter = 0; letter < data.letters.length; letter += 1) {
      const weight = weightAt(state, { card: at, sound, letter });
      if (weight < 0) continue;
      const ink = Math.round(clamp(weight, 0, 1) * 255) * 3;
      pen.fillStyle = css(theme.ramp.subarray(ink, ink + 3));
      pen.fillRect(plan.left + letter * plan.pitch, plan.top + sound * plan.row, plan.pitch - gap, plan.row - gap);
    }
  }
}

/** What a sound may look at, and how the bell curve weighs it. */
function paintWindows(state, pen, at) {
  const { data, plan, theme } = state;
  const { rows, centres, bell } = data.cards[at];
  if (!centres) return;
  const letters = data.letters.length;
  for (let sound = 0; sound < rows; sound += 1) {
    const seen = data.letters.map((_, letter) => weightAt(state, { card: at, sound, letter }) >= 0);
    const [first, last] = [seen.indexOf(true), seen.lastIndexOf(true)];
    const [x, y] = [plan.left + first * plan.pitch, plan.top + sound * plan.row];
    const [wide, high] = [(last - first + 1) * plan.pitch, plan.row];
    pen.strokeStyle = css(theme.text);
    pen.lineWidth = 1.5;
    pen.strokeRect(x + 0.25, y + 0.25, wide - 1.5, high - 1.5);
    if (!bell) continue;
    const line = new Path2D();
    const across = (s) => plan.left + (s + 0.5) * plan.pitch;
    for (let s = Math.max(centres[sound] - REACH, -0.5); s <= Math.min(centres[sound] + REACH, letters - 0.5); s += 0.05) {
      line.lineTo(across(s), y + high - 3 - (high - 6) * Math.exp(-((s - centres[sound]) ** 2) / 2));
    }
    const middle = new Path2D();
    middle.moveTo(across(centres[sound]), y + 3);
    middle.lineTo(across(centres[sound]), y + high - 3);
    pen.save();
    pen.beginPath();
    pen.rect(x, y, wide - 1, high);
    pen.clip(); // beyond the window the curve weighs nothing
    pen.lineJoin = "round";
    for (const [color, thick] of [[theme.background, 4], [rgb(theme.lessMore[5]), 2]]) {
      pen.strokeStyle = css(color);
      pen.lineWidth = thick;
      pen.stroke(line);
      pen.stroke(middle);
    }
    pen.restore();
  }
}

function paintPicture(state, at) {
  const { data, plan, theme, cards } = state;
  const { rows } = data.cards[at];
  if (!rows) return;
  const pen = fitCanvas(cards[at].picture, plan.width, plan.top + rows * plan.row + 4);
  const chosen = chosenCell(state);
  const looked = [state.hover, state.cursor].find((cell) => cell?.card === at);
  paintLabels(state, pen, at, looked ?? (chosen.card === at ? chosen : null));
  paintCells(state, pen, at);
  paintWindows(state, pen, at);
  const around = ({ sound, letter }, color, thick) => frame(pen, plan.left + letter * plan.pitch, plan.top + sound * plan.row,
    plan.pitch - 1, plan.row - 1, color, thick, theme.background);
  if (chosen.card === at && chosen.sound !== null) around(chosen, theme.accent, 3);
  if (looked) around(looked, theme.text, 2);
}

function paintCard(state, at) {
  const { data, cards } = state;
  const [card, told] = [cards[at], data.cards[at]];
  set(card.node, "data-station", told.station);
  card.node.classList.toggle("chosen", data.chosen.station === told.station);
  say(card.year, `${told.year}  `);
  say(card.title, told.title);
  say(card.ipa, told.ipa || "–");
  say(card.arpabet, told.sounds.map(([name]) => name).filter((name) => name !== "end").join(" "));
  card.which.hidden = !told.heads.length;
  if (!unchanged(card, "heads", [told.heads])) {
    card.select.replaceChildren(...told.heads.map(([value, text]) => new Option(text, value)));
  }
  if (told.heads.length) card.select.value = told.head;
  set(card.select, "aria-label", `Head of ${told.title}, layer.head`);
  set(card.which, "title", "layer.head; at first the one whose letters tell most about the sounds");
  [card.empty.hidden, card.stack.hidden] = [told.rows > 0, told.rows === 0];
  say(card.empty, told.empty);
  set(card.empty, "aria-pressed", data.chosen.station === told.station);
  set(card.picture, "aria-label", `${told.title} says ${told.ipa || "nothing"}: which letters each sound looks at. Arrow keys ` +
    "move, Enter chooses.");
  paintPicture(state, at);
}

function paintRoad(state) {
  const { root, data } = state;
  if (!state.width) return;
  const theme = (state.theme = readTheme(root));
  state.plan = planRoad(state);
  state.from = offsets(data);
  const look = { muted: css(theme.muted), line: css(theme.line), ink: css(theme.text), bell: theme.lessMore[5],
                 columns: state.plan.columns, ramp: `linear-gradient(to right, ${theme.stops.join()})` };
  for (const [name, value] of Object.entries(look)) root.style.setProperty(`--${name}`, value);
  keep(state.cards, data.cards.length, () => makeCard(state, state.cardsNode));
  data.cards.forEach((_, at) => paintCard(state, at));
  tellStatus(state);
  painted(state, { word: data.letters.slice(0, -1).join(""), station: data.chosen.station, sound: data.chosen.sound ?? "",
                   letter: data.chosen.letter ?? "", columns: state.plan.columns, left: state.plan.left,
                   top: state.plan.top, pitch: state.plan.pitch, row: state.plan.row });
}

// ---- looking and choosing ----

function tell(state, cell) {
  const { data } = state;
  const told = data.cards[cell.card];
  if (cell.sound === null) return `${told.title}: ${told.empty}`;
  const [name, ipa] = told.sounds[cell.sound];
  const letter = data.letters[cell.letter];
  const end = cell.letter === data.letters.length - 1;
  const weight = weightAt(state, cell);
  const looks = weight < 0 ? "cannot look" : `looks ${exactly(weight)}`;
  const who = told.head ? `${told.title}, head ${told.head}` : told.title;
  const where = end ? "the end" : `${quoted(letter)}, letter ${cell.letter}`;
  return `${who}: ${ipa ? `${ipa} (${name})` : "the end"} ${looks} at ${where}`;
}

function tellStatus(state) {
  const looked = state.hover ?? state.cursor;
  say(state.status, looked ? tell(state, looked) : `Chosen: ${tell(state, chosenCell(state))}`);
}

function lookAt(state, cell, event) {
  const before = state.hover;
  state.hover = cell;
  if (!like(before, cell)) {
    for (const at of new Set([before?.card, cell?.card])) if (at !== undefined) paintPicture(state, at);
    if (cell) say(state.tip, tell(state, cell));
    tellStatus(state);
  }
  if (event) followPointer(state, event);
  else state.tip.hidden = true;
}

/** The keyboard's cell, with the bubble beside it. */
function moveTo(state, cell) {
  const { cards, plan, tip, root } = state;
  const before = state.cursor;
  state.cursor = cell;
  for (const at of new Set([before?.card, cell?.card])) if (at !== undefined) paintPicture(state, at);
  tellStatus(state);
  tip.hidden = !cell;
  if (!cell) return;
  say(tip, tell(state, cell));
  const [box, canvas] = [root.getBoundingClientRect(), cards[cell.card].picture.getBoundingClientRect()];
  const x = canvas.left - box.left + plan.left + (cell.letter + 1) * plan.pitch;
  const y = canvas.top - box.top + plan.top + (cell.sound + 1) * plan.row + 8;
  tip.style.transform = `translate(${clamp(x, 0, Math.max(0, box.width - tip.offsetWidth))}px, ${y}px)`;
}

/** Where the keyboard begins on a card: at the cell that was chosen there, else at the first. */
function startOf(state, card) {
  const chosen = chosenCell(state);
  return chosen.card === card && chosen.sound !== null ? chosen : { card, sound: 0, letter: 0 };
}

function chooseCell(state, cell) {
  if (!cell) return;
  const { station } = state.data.cards[cell.card];
  const { sound, letter } = cell;
  state.data.chosen = { station, sound, letter }; // shown at once; the page's answer paints it again
  paintRoad(state);
  state.choose({ station, sound, letter });
}

function onCellKey(state, card, event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { sound, letter } = state.cursor ?? startOf(state, card);
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -99], End: [0, 99] }[event.key];
  const chooses = event.key === "Enter" || event.key === " ";
  if (!step && !chooses && event.key !== "Escape") return;
  event.preventDefault();
  event.stopPropagation(); // the page has shortcuts of its own on these keys
  const { data } = state;
  if (event.key === "Escape") moveTo(state, null);
  else if (chooses) chooseCell(state, { card, sound, letter });
  else moveTo(state, { card, sound: clamp(sound + step[0], 0, data.cards[card].rows - 1),
                       letter: clamp(letter + step[1], 0, data.letters.length - 1) });
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".road", makeRoad, paintRoad);
  state.runs += 1;
  const other = !state.data || !same(state.data.letters, data.letters) ||
    !same(state.data.cards.map(({ rows }) => rows), data.cards.map(({ rows }) => rows));
  state.data = { ...data, z: numbers(data.z) };
  state.choose = (value) => setTriggerValue("choose", value);
  if (other) [state.hover, state.cursor, state.tip.hidden] = [null, null, true]; // another word: the cells are others
  paintRoad(state);
  return unmount(state);
}
