// Scrubs through the steps of a run: Back, Play, Next, a slider, and the arrow keys of the whole page (stepping.js).
// data: {count, at, names: [what a step did, …], hint, writing: more steps are still coming, answered: the press that this answers}.
// State "place": {step, sent}. Whether it plays is known here alone.
// A step is shown here at once. The page is asked for one step at a time, and then for the latest: else a dragged slider
// would cut off every answer.

const PACE = 900; // milliseconds a step, where the page keeps up
const REST = 350; // and at least so many after its answer, so that the step is seen
const PATIENCE = 5000; // an answer that has not come by then is not waited for

function makePlayer(root) {
  const find = (selector) => root.querySelector(selector);
  return { back: find(".back"), play: find(".play"), word: find(".word"), next: find(".next"), slider: find("input"),
           number: find(".number"), name: find(".name"), hint: find(".hint"),
           playing: false, moved: 0, answered: 0, sent: 0, asked: null, timer: 0, patience: 0, choose: () => {} };
}

const lastStep = ({ data }) => data.count - 1;

function paintPlayer(state) {
  const { data, slider } = state;
  const { text, background, muted } = readTheme(state.root);
  state.root.style.setProperty("--edge", css(mix(text, background, 0.35)));
  state.root.style.setProperty("--muted", css(muted));
  const last = lastStep(state);
  const name = data.names[data.at] ?? "";
  const atEnd = data.at === last;
  set(slider, "max", Math.max(last, 0));
  if (Number(slider.value) !== data.at) slider.value = data.at;
  set(slider, "aria-valuetext", `step ${data.at}${name ? `: ${name}` : ""}`);
  say(state.number, `Step ${data.at} of ${last}`);
  say(state.name, oneLine(name));
  say(state.hint, state.playing && data.writing && atEnd ? data.hint || "waiting for the next step" : state.playing ? data.hint : "");
  say(state.word, state.playing ? "Pause" : "Play");
  state.play.classList.toggle("playing", state.playing);
  state.play.disabled = last < 1 && !data.writing;
  slider.disabled = last < 1;
  state.back.disabled = data.at === 0;
  state.next.disabled = atEnd;
  painted(state, { step: data.at, playing: state.playing });
}

/** Asks the page for the step that is shown, unless it still owes an answer: `asked` is the step that it was asked for. */
function ask(state) {
  if (state.asked !== null) return;
  state.asked = state.data.at;
  state.sent = Math.max(Date.now(), state.sent + 1); // two presses in one millisecond are two
  state.patience = setTimeout(() => goOn(state), PATIENCE);
  state.choose({ step: state.asked, sent: state.sent });
}

/** The answer has come, or will never come. */
function goOn(state) {
  clearTimeout(state.patience);
  const behind = state.asked !== state.data.at;
  state.asked = null;
  state.answered = Date.now();
  if (behind) ask(state);
  plan(state);
}

function showStep(state, step) {
  if (step < 0 || step > lastStep(state) || step === state.data.at) return;
  state.data.at = step;
  state.moved = Date.now();
  paintPlayer(state);
  ask(state);
}

/** A move by hand ends the playing. */
function goTo(state, step) {
  playing(state, false);
  showStep(state, clamp(step, 0, lastStep(state)));
}

function playing(state, on) {
  state.playing = on;
  if (on && state.data.at === lastStep(state) && !state.data.writing) showStep(state, 0);
  paintPlayer(state);
  plan(state);
}

/** When the next step is due: not before the answer to this one, which calls again. */
function plan(state) {
  clearTimeout(state.timer);
  if (!state.playing || state.asked !== null) return;
  const { data } = state;
  if (data.at === lastStep(state)) {
    if (data.writing) return; // the run that brings the next step calls again
    state.playing = false;
    paintPlayer(state);
    return;
  }
  const due = Math.max(state.moved + PACE, state.answered + REST);
  state.timer = setTimeout(() => {
    showStep(state, data.at + 1);
    plan(state);
  }, due - Date.now());
}

/** What a run of the page brings: a step that somebody moved to since stays shown. */
function receive(state, data) {
  const answer = state.asked !== null && data.answered === state.sent;
  const own = state.data?.at;
  const keep = state.asked !== null && (!answer || own !== state.asked) && own < data.count;
  state.data = { ...data, at: keep ? own : data.at };
  if (answer && !keep) state.asked = data.at; // the page may have another step in mind
  paintPlayer(state);
  if (answer) goOn(state);
  else plan(state);
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const state = mount(parentElement, ".player", makePlayer, paintPlayer);
  state.runs += 1;
  state.choose = (value) => setStateValue("place", value); // a trigger may be dropped while the page still answers another
  state.back.onclick = () => goTo(state, state.data.at - 1);
  state.next.onclick = () => goTo(state, state.data.at + 1);
  state.play.onclick = () => playing(state, !state.playing);
  state.slider.oninput = () => goTo(state, Number(state.slider.value));
  pageArrows(state, (by) => goTo(state, state.data.at + by));
  receive(state, data);
  const stop = unmountSteps(state);
  return () => {
    clearTimeout(state.timer);
    clearTimeout(state.patience);
    stop();
  };
}
