// The arrow keys of the whole page, for what moves through steps: this file stands in front of it in one module.

/** What has arrow keys of its own: there they do not turn the page's steps. */
const OWN_ARROWS = "input, textarea, select, canvas, [contenteditable], [role=slider], [role=listbox], [role=option],"
  + "[role=combobox], [role=spinbutton], [role=radio], [role=radiogroup], [role=tab], [role=grid], [role=application],"
  + "[role=menu], [role=dialog]";

function onPageKey(state, event) {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || !state.root.isConnected) return;
  const focused = event.composedPath()[0]; // inside the shadow of a component, too
  if (focused instanceof Element && focused.closest(OWN_ARROWS)) return;
  event.preventDefault();
  state.moveBy(by);
}

/** From now on the page's left and right arrow keys call moveBy(−1 or 1). */
function pageArrows(state, moveBy) {
  state.moveBy = moveBy;
  if (state.onKey) return;
  state.onKey = (event) => onPageKey(state, event);
  document.addEventListener("keydown", state.onKey); // the page's own: no element of ours has the focus
}

/** What the browser does when such an element is dropped from the page for good. */
function unmountSteps(state) {
  const stop = unmount(state);
  return () => {
    document.removeEventListener("keydown", state.onKey);
    stop();
  };
}
