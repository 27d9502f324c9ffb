// The steps of a worksheet: a name for each, Back and Next, a slider, and the arrow keys of the whole page (stepping.js).

function makeStepper(root) {
  const find = (selector) => root.querySelector(selector);
  return { names: find(".names"), back: find(".back"), next: find(".next"), slider: find("input"), buttons: [], sent: 0 };
}

function paintStepper(state) {
  const { data, buttons, slider } = state;
  const { text, background } = readTheme(state.root);
  state.root.style.setProperty("--count", data.names.length);
  state.root.style.setProperty("--edge", css(mix(text, background, 0.35)));
  keep(buttons, data.names.length, (i) => {
    const node = child(state.names, "li");
    const button = child(node, "button");
    button.type = "button";
    button.onclick = () => goTo(state, i);
    return { node, button };
  });
  data.names.forEach((name, i) => {
    const { button } = buttons[i];
    say(button, `${i} ${name}`);
    if (i === data.step) set(button, "aria-current", "step");
    else button.removeAttribute("aria-current");
  });
  set(slider, "max", data.names.length - 1);
  slider.value = data.step;
  set(slider, "aria-valuetext", `${data.step} ${data.names[data.step]}`);
  state.back.disabled = data.step === 0;
  state.next.disabled = data.step === data.names.length - 1;
  painted(state, { step: data.step });
}

function goTo(state, step) {
  const { data } = state;
  if (step < 0 || step >= data.names.length || step === data.step) return;
  data.step = step; // shown at once; the page's answer paints it again
  state.sent = Date.now();
  paintStepper(state);
  state.root.scrollIntoView({ block: "nearest" });
  state.choose({ step, sent: state.sent });
}

export default function (component) {
  const { data, parentElement, setStateValue } = component;
  const state = mount(parentElement, ".stepper", makeStepper, paintStepper);
  state.runs += 1;
  // An answer to an earlier press does not undo the last one: fast presses would be lost.
  const late = state.sent > 0 && data.answered !== state.sent && state.data.step < data.names.length;
  state.data = { names: data.names, step: late ? state.data.step : data.step };
  state.choose = (value) => setStateValue("place", value); // a trigger may be dropped while the page still answers another
  state.back.onclick = () => goTo(state, state.data.step - 1);
  state.next.onclick = () => goTo(state, state.data.step + 1);
  state.slider.oninput = () => goTo(state, Number(state.slider.value));
  pageArrows(state, (by) => goTo(state, state.data.step + by));
  paintStepper(state);
  return unmountSteps(state);
}
