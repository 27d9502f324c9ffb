// The text as a row of tokens, shaded by one row of attention; the chosen token is the query.
// data: {tokens, ids?, weights? (tokens,) float32 with −1 for gaps, chosen}. Trigger "choose": {token}.

const MOST_CHIPS = 160;
const MARGIN = 50; // neighbours that must be on screen beside the chosen token

function makeChips(root) {
  const find = (name) => root.querySelector(name);
  return { row: find(".row"), note: find(".note"), tip: find(".tip"), chips: [], start: 0, choose: () => {} };
}

/** The first token to show: stays where it is while the chosen one has neighbours around it. */
function firstShown(start, chosen, total) {
  const last = Math.max(total - MOST_CHIPS, 0);
  const low = clamp(start, 0, last);
  const near = (low === 0 || chosen >= low + MARGIN) && (low === last || chosen < low + MOST_CHIPS - MARGIN);
  return near ? low : clamp(chosen - MOST_CHIPS / 2, 0, last);
}

/** One token: the button that is the option, and its id beside it, outside of the option's name. */
function makeChip() {
  const node = document.createElement("span");
  node.className = "cell";
  node.setAttribute("role", "presentation");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.dir = "auto";
  button.setAttribute("role", "option");
  const number = document.createElement("span");
  number.className = "number";
  number.setAttribute("aria-hidden", "true");
  node.append(button, number);
  return { node, button, number };
}

/** As many chip nodes as needed, old ones kept: a rerun must not lose the focus. */
function keepChips(state, wanted) {
  while (state.chips.length > wanted) state.chips.pop().node.remove();
  const fresh = document.createDocumentFragment();
  while (state.chips.length < wanted) {
    const chip = makeChip();
    state.chips.push(chip);
    fresh.append(chip.node);
  }
  state.row.append(fresh);
}

/** Everything about one token in words: for the bubble and for a screen reader. */
function describe(data, token) {
  const parts = [quoted(data.tokens[token]), `token ${token}`];
  if (data.ids) parts.push(`id ${data.ids[token]}`);
  if (data.weights) parts.push(data.weights[token] < 0 ? "cannot look there" : `weight ${exactly(data.weights[token])}`);
  return parts.join(", ") + (token === data.chosen ? ", chosen: the query" : "");
}

function paintChip(state, chip, token, theme) {
  const { data } = state;
  const weight = data.weights ? clamp(data.weights[token], 0, 1) : 0;
  const shade = mix(theme.accent, theme.background, data.weights ? weight : 0.06);
  const { button, number } = chip;
  chip.node.dataset.token = button.dataset.token = token;
  button.setAttribute("aria-selected", String(token === data.chosen));
  button.setAttribute("aria-label", describe(data, token));
  button.setAttribute("aria-posinset", token + 1);
  button.setAttribute("aria-setsize", data.tokens.length);
  button.tabIndex = token === state.active ? 0 : -1;
  say(button, data.tokens[token]);
  say(number, data.ids ? String(data.ids[token]) : "");
  number.hidden = !data.ids;
  button.style.backgroundColor = css(shade);
  button.style.color = css(readable(theme.text, shade));
  button.style.setProperty("--edge", css(mix(theme.text, shade, 0.16)));
}

function paintChips(state) {
  const { data, root } = state;
  const theme = readTheme(root);
  const total = data.tokens.length;
  state.width = root.clientWidth;
  state.start = firstShown(state.start, data.chosen, total);
  const shown = Math.min(total, MOST_CHIPS);
  root.style.setProperty("--muted", css(theme.muted));
  keepChips(state, shown);
  state.chips.forEach((chip, i) => paintChip(state, chip, state.start + i, theme));
  state.note.hidden = shown === total;
  say(state.note, shown === total ? "" :
    `Tokens ${count(state.start)} to ${count(state.start + shown - 1)} of ${count(total)} are shown here; choose others by their number below.`);
  painted(state, { chosen: data.chosen });
}

const tokenOf = (event) => {
  const node = event.target.closest?.(".cell");
  return node ? Number(node.dataset.token) : null;
};

/** Moves the focus and the single tab stop to another chip. */
function focusToken(state, token) {
  const at = clamp(token - state.start, 0, state.chips.length - 1);
  state.chips.forEach((chip, i) => (chip.button.tabIndex = i === at ? 0 : -1));
  state.active = state.start + at;
  state.chips[at].button.focus();
}

function onChipKey(state, event) {
  const token = tokenOf(event);
  if (token === null || event.ctrlKey || event.metaKey || event.altKey) return;
  const end = state.data.tokens.length - 1;
  const goal = { ArrowLeft: token - 1, ArrowRight: token + 1, Home: 0, End: end }[event.key];
  if (event.key === "Escape") hideTip(state);
  if (goal === undefined) return; // Enter and Space are clicks, the button sees to that
  event.preventDefault();
  focusToken(state, goal);
}

/** The bubble over a chip, kept inside the component's width. */
function showTip(state, event) {
  const token = tokenOf(event);
  if (token === null) return;
  const { tip, root } = state;
  say(tip, describe(state.data, token));
  tip.hidden = false;
  const [box, chip] = [root.getBoundingClientRect(), event.target.closest(".cell").getBoundingClientRect()];
  const left = clamp(chip.left - box.left, 0, Math.max(0, box.width - tip.offsetWidth));
  tip.style.transform = `translate(${left}px, ${chip.bottom - box.top + 8}px)`;
}

function hideTip(state) {
  state.tip.hidden = true;
}

function chooseToken(state, token) {
  if (token === null || token === state.data.chosen) return;
  state.data.chosen = token; // shown at once; the page's answer paints it again
  state.active = token;
  paintChips(state);
  if (state.row.contains(state.root.getRootNode().activeElement)) focusToken(state, token); // the window may have moved
  state.choose({ token });
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".chips", makeChips, paintChips);
  state.runs += 1;
  state.data = { ...data, weights: data.weights ? numbers(data.weights) : null };
  state.active = data.chosen;
  state.choose = (value) => setTriggerValue("choose", value);
  state.row.onclick = (event) => chooseToken(state, tokenOf(event));
  state.row.onkeydown = (event) => onChipKey(state, event);
  state.row.onmouseover = (event) => showTip(state, event);
  state.row.onmouseleave = () => hideTip(state);
  if (!state.listening) {
    // focusin has no on… property; once per node
    state.row.addEventListener("focusin", (event) => event.target.matches(":focus-visible") && showTip(state, event));
    state.row.addEventListener("focusout", () => hideTip(state));
    state.listening = true;
  }
  paintChips(state);
  return unmount(state);
}
