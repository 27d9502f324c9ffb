// The words of a sentence in a row, which can be dragged to other places, or picked up and moved with the arrow keys.
// data: {words: [text of each word as the sentence has it], order: [number of the word at each place], about}.
// Trigger "choose": {order}, when a word has been let go at another place.

const REST = "Drag a word, or press Enter on one and move it with the arrow keys.";

function makeWords(root) {
  return { row: root.querySelector(".row"), status: root.querySelector(".status"), words: [], order: [], active: 0,
           held: null, before: [], drag: null, choose: () => {} };
}

const nameOf = (state, place) => quoted(state.data.words[state.order[place]]);

function makeWord(state) {
  const node = child(state.row, "li");
  const button = child(node, "button", "word");
  button.type = "button";
  return { node, button, text: child(button, "bdi"), from: child(button, "span", "from") };
}

function paintWords(state) {
  const { data, root, order } = state;
  const theme = readTheme(root);
  const ground = mix(theme.accent, theme.background, 0.06);
  const look = { muted: css(mix(theme.text, ground, 0.78)), edge: css(mix(theme.text, theme.background, 0.3)), ground: css(ground),
                 moved: css(mix(theme.accent, theme.background, 0.2)) };
  for (const [name, value] of Object.entries(look)) root.style.setProperty(`--${name}`, value);
  set(state.row, "aria-label", data.about);
  keep(state.words, order.length, () => makeWord(state));
  state.words.forEach(({ node, button, text, from }, place) => {
    const word = order[place];
    set(node, "data-place", place);
    say(text, data.words[word]);
    say(from, String(word));
    set(from, "aria-hidden", true);
    button.classList.toggle("moved", word !== place);
    set(button, "tabindex", place === state.active ? 0 : -1);
    set(button, "aria-pressed", place === state.held);
    const stood = word === place ? "" : `, it stood at ${word}`;
    set(button, "aria-label", `${data.words[word]}, place ${place} of 0 to ${order.length - 1}${stood}`);
  });
  painted(state, { order: order.join(" "), held: state.held ?? "" });
}

const placeOf = (event) => {
  const node = event.target.closest?.("li");
  return node ? Number(node.dataset.place) : null;
};

/** Takes the held word to another place; the words between move up. */
function carry(state, place) {
  const goal = clamp(place, 0, state.order.length - 1);
  if (goal === state.held) return;
  const [word] = state.order.splice(state.held, 1);
  state.order.splice(goal, 0, word);
  state.held = state.active = goal;
  say(state.status, `${nameOf(state, goal)} is at place ${goal}.`);
  paintWords(state);
}

function pick(state, place) {
  [state.held, state.active, state.before] = [place, place, [...state.order]];
  say(state.status, `${nameOf(state, place)} is picked up: the arrow keys move it, Enter lets it go, Escape puts it back.`);
  paintWords(state);
}

/** Lets go of the word; the page hears of it where the order is another one. */
function letGo(state, back = false) {
  if (state.held === null) return;
  const name = nameOf(state, state.held);
  if (back) {
    state.active = state.before.indexOf(state.order[state.held]);
    state.order = [...state.before];
  }
  const place = state.active;
  state.held = null;
  paintWords(state);
  const moved = !same(state.order, state.before);
  say(state.status, moved ? `${name} stands at place ${place} now.` : REST);
  if (moved) state.choose({ order: state.order });
}

function focusWord(state, place) {
  state.active = clamp(place, 0, state.order.length - 1);
  paintWords(state);
  state.words[state.active].button.focus();
}

function onKey(state, event) {
  const place = placeOf(event);
  if (place === null || event.ctrlKey || event.metaKey || event.altKey) return;
  const held = state.held !== null;
  const goal = { ArrowLeft: place - 1, ArrowUp: place - 1, ArrowRight: place + 1, ArrowDown: place + 1,
                 Home: 0, End: state.order.length - 1 }[event.key];
  if (goal !== undefined) {
    if (held) carry(state, goal);
    focusWord(state, goal);
  } else if (event.key === "Enter" || event.key === " ") {
    if (held) letGo(state);
    else pick(state, place);
  } else if (event.key === "Escape" && held) {
    letGo(state, true);
    focusWord(state, state.active);
  } else return;
  event.preventDefault();
  event.stopPropagation(); // the page has shortcuts of its own on these keys
}

/** The place whose word is under the pointer, or nearest to it in its line. */
function placeUnder(state, event) {
  const boxes = state.words.map(({ node }) => node.getBoundingClientRect());
  const away = ({ left, right, top, bottom }) =>
    Math.max(top - event.clientY, event.clientY - bottom, 0) * 4 + Math.max(left - event.clientX, event.clientX - right, 0);
  const distances = boxes.map(away);
  return distances.indexOf(Math.min(...distances));
}

function onDown(state, event) {
  const place = placeOf(event);
  if (place === null || event.button !== 0) return;
  if (state.held !== null) letGo(state);
  state.drag = { x: event.clientX, y: event.clientY, place, id: event.pointerId };
}

function onMove(state, event) {
  const { drag } = state;
  if (!drag) return;
  if (state.held === null) {
    if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) < 5) return; // a click, not yet a drag
    state.row.setPointerCapture(drag.id);
    pick(state, drag.place);
  }
  carry(state, placeUnder(state, event));
}

function onUp(state) {
  const { drag } = state;
  state.drag = null;
  if (drag && state.held !== null) letGo(state);
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".words", makeWords, paintWords);
  state.runs += 1;
  const news = !state.data || !same(state.data, data);
  state.data = data;
  if (news) [state.order, state.held, state.drag] = [[...data.order], null, null];
  state.active = clamp(state.active, 0, data.order.length - 1);
  if (!state.status.textContent || (news && state.held === null)) say(state.status, REST);
  state.choose = (value) => setTriggerValue("choose", value);
  state.row.onkeydown = (event) => onKey(state, event);
  state.row.onpointerdown = (event) => onDown(state, event);
  state.row.onpointermove = (event) => onMove(state, event);
  state.row.onpointerup = () => onUp(state);
  state.row.onpointercancel = () => {
    state.drag = null;
    letGo(state, true);
  };
  state.row.onfocusout = (event) => {
    if (!state.drag && state.held !== null && !state.row.contains(event.relatedTarget)) letGo(state);
  };
  paintWords(state);
  return unmount(state);
}
