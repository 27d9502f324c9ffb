// The text as a row of tokens, shaded by one row of attention; the chosen tokens are the queries.
// data: {tokens, ids?, notes?, words?, about?, weights? (tokens,) float32 with −1 for gaps, chosen: [token, …], label?, signed?}.
// signed: weights are in −1..1 with −2 for gaps; those below 0 are orange, with a dashed line under them.
// Trigger "choose": {token, add}: `add` says that the token joins the chosen ones or leaves them.

const MOST_CHIPS = 160;
const FAINT = 0.02; // a shade of less cannot be seen, and its sign is not drawn either
const MARGIN = 50; // neighbours that must be on screen beside the chosen token

function makeChips(root) {
  const find = (name) => root.querySelector(name);
  return { row: find(".row"), label: find(".label"), note: find(".note"), tip: find(".tip"),
           chips: [], start: 0, active: 0, choose: () => {} };
}

/** The first token to show: stays where it is while the chosen one has neighbours around it. */
function firstShown(start, active, total) {
  const last = Math.max(total - MOST_CHIPS, 0);
  const low = clamp(start, 0, last);
  const near = (low === 0 || active >= low + MARGIN) && (low === last || active < low + MOST_CHIPS - MARGIN);
  return near ? low : clamp(active - MOST_CHIPS / 2, 0, last);
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

const isChosen = (data, token) => data.chosen.includes(token);

const isGap = (data, token) => data.weights[token] < (data.signed ? -1.5 : 0);

/** "weight 58.1% (0.58123)", or what else there is to say. */
function weightOf(data, token) {
  if (isGap(data, token)) return data.signed ? "no number" : "cannot look there";
  const weight = data.weights[token];
  return `weight ${weight < 0 ? "−" : ""}${exactly(Math.abs(weight))}`;
}

/** Everything about one token in words: for the bubble and for a screen reader. */
function describe(data, token) {
  if (data.words) return data.words[token];
  const parts = [quoted(data.tokens[token]), `token ${token}`];
  if (data.ids) parts.push(`id ${data.ids[token]}`);
  if (data.weights) parts.push(weightOf(data, token));
  const one = data.chosen.length === 1 ? ", chosen: the query" : ", chosen: one of the queries";
  return parts.join(", ") + (isChosen(data, token) ? one : "");
}

function paintChip(state, chip, token, theme) {
  const { data } = state;
  const weight = data.weights && !isGap(data, token) ? clamp(data.weights[token], -1, 1) : 0;
  const against = weight <= -FAINT;
  const shade = mix(against ? rgb(theme.lessMore[5]) : theme.accent, theme.background, data.weights ? Math.abs(weight) : 0.06);
  const ink = readable(theme.text, shade);
  const { button, number } = chip;
  for (const node of [chip.node, button]) set(node, "data-token", token);
  set(button, "aria-selected", isChosen(data, token));
  set(button, "aria-label", describe(data, token));
  set(button, "aria-posinset", token + 1);
  set(button, "aria-setsize", data.tokens.length);
  set(button, "tabindex", token === state.active ? 0 : -1);
  say(button, data.tokens[token]);
  const small = data.notes ?? data.ids;
  say(number, small ? String(small[token]) : "");
  number.hidden = !small;
  const under = against ? `; border-bottom: 3px dashed ${css(mix(ink, shade, 0.75))}; padding-bottom: calc(0.2rem - 3px)` : "";
  const look = `background-color: ${css(shade)}; color: ${css(ink)}; --edge: ${css(mix(theme.text, shade, 0.16))}${under}`;
  if (chip.look !== look) button.style.cssText = chip.look = look;
}

function paintChips(state) {
  const { data, root } = state;
  const theme = readTheme(root);
  const total = data.tokens.length;
  state.start = firstShown(state.start, state.active, total);
  const shown = Math.min(total, MOST_CHIPS);
  root.style.setProperty("--muted", css(theme.muted));
  keepChips(state, shown);
  state.chips.forEach((chip, i) => paintChip(state, chip, state.start + i, theme));
  say(state.label, data.label || "");
  state.label.hidden = !data.label;
  set(state.row, "aria-label", data.about || `Tokens${data.label ? ` of the ${data.label}` : ""}; ` +
    "the chosen ones are the queries. Enter chooses one, Shift and Enter adds or removes one.");
  state.note.hidden = shown === total;
  say(state.note, shown === total ? "" :
    `Tokens ${count(state.start)} to ${count(state.start + shown - 1)} of ${count(total)} are shown here; choose others by their number below.`);
  if (!state.tip.hidden && state.told < total) say(state.tip, describe(data, state.told));
  painted(state, { chosen: data.chosen.join(" ") });
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
  if (token === null || event.altKey) return;
  if (event.key === "Enter" && adds(event)) {
    event.preventDefault(); // the click that a button makes of Enter does not tell of Shift everywhere
    chooseToken(state, token, true);
    return;
  }
  if (event.ctrlKey || event.metaKey) return;
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
  state.told = token;
  say(tip, describe(state.data, token));
  tip.hidden = false;
  const [box, chip] = [root.getBoundingClientRect(), event.target.closest(".cell").getBoundingClientRect()];
  const left = clamp(chip.left - box.left, 0, Math.max(0, box.width - tip.offsetWidth));
  tip.style.transform = `translate(${left}px, ${chip.bottom - box.top + 8}px)`;
}

function hideTip(state) {
  state.tip.hidden = true;
}

/** What is chosen after `token` was, alone or added; an added one that was chosen leaves, but never the last. */
function afterChoice(chosen, token, add) {
  if (!add) return [token];
  return chosen.includes(token) ? chosen.filter((other) => other !== token) : [...chosen, token];
}

function chooseToken(state, token, add) {
  if (token === null) return;
  const { data } = state;
  const chosen = afterChoice(data.chosen, token, add);
  if (!chosen.length || same(chosen, data.chosen)) return;
  state.active = token;
  // Shown at once, and the page's answer paints it again; of anything but a plain choice only the page knows what it means.
  if (!add && data.chosen.length) data.chosen = chosen;
  paintChips(state);
  if (state.row.contains(state.root.getRootNode().activeElement)) focusToken(state, token); // the window may have moved
  state.choose({ token, add });
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const state = mount(parentElement, ".chips", makeChips, paintChips);
  state.runs += 1;
  state.data = { ...data, chosen: [...data.chosen], weights: data.weights ? numbers(data.weights) : null };
  const stays = data.chosen.length ? data.chosen.includes(state.active) : state.active < data.tokens.length;
  if (!stays) state.active = data.chosen[0] ?? 0;
  state.choose = (value) => setTriggerValue("choose", value);
  state.row.onclick = (event) => chooseToken(state, tokenOf(event), adds(event));
  state.row.onmousedown = (event) => event.shiftKey && event.preventDefault(); // it would select the page's text
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
