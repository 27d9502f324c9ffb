// The page around the components: one selection (entry, head, token) that all of them show and change. Python puts the
// components in front of this file as `components`; the numbers are in the page's own JSON.

const find = (id) => document.getElementById(id);
const page = JSON.parse(find("data").textContent);
const chosen = { entry: page.entry, head: page.head, token: page.token, view: "head" };
const GAP = -1; // "cannot look there", as the components read it

/** Base64 → the bytes under it. */
function bytes(text) {
  const raw = atob(text);
  const all = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) all[i] = raw.charCodeAt(i);
  return all;
}

/** An array as the components expect it: an Arrow table with one column. */
const table = (array) => ({ getChild: () => ({ toArray: () => array }) });

const decoded = new Map(); // entry → its weights, unpacked when somebody looks

/** (query tokens × key tokens) of one head, or null where only its small picture is here. */
function weightsOf(entry, head) {
  const { weights, first, held, queries, keys } = page.entries[entry];
  if (head < first || head >= first + held) return null;
  if (!decoded.has(entry)) decoded.set(entry, new Float32Array(bytes(weights).buffer));
  const size = page.tokens[queries].length * page.tokens[keys].length;
  return decoded.get(entry).subarray((head - first) * size, (head - first + 1) * size);
}

const pictures = bytes(page.pictures);

// ---- in words ----

const percent = (weight) => `${(weight * 100).toFixed(1)}%`;

/** One row as the app says it: its three strongest keys. */
function finding(entry, head, token, row) {
  const { title, queries, keys } = page.entries[entry];
  const order = [...row.keys()].filter((key) => row[key] !== GAP).sort((a, b) => row[b] - row[a] || a - b);
  const looks = order.slice(0, 3).map((key) => `${percent(row[key])} at “${page.tokens[keys][key]}” (token ${key})`);
  const listed = looks.length > 1 ? `${looks.slice(0, -1).join(", ")} and ${looks.at(-1)}` : looks[0] ?? "nowhere";
  return `${title}, head ${head}: “${page.tokens[queries][token]}” (token ${token}) looks ${listed}.`;
}

// ---- the components ----

const places = new Map(); // id of the place → the shadow root that its component lives in

/** Runs a component in its place with new data; `choose` is told what the reader chose there. */
function run(id, name, data, choose) {
  const place = find(id);
  if (!places.has(id)) {
    const root = place.attachShadow({ mode: "open" });
    root.append(find(`${name}-template`).content.cloneNode(true));
    places.set(id, root);
  }
  components[name]({ data, parentElement: places.get(id), setTriggerValue: (trigger, value) => choose(value) });
}

function showTokens(entry, row) {
  const [queries, keys] = [page.tokens[entry.queries], page.tokens[entry.keys]];
  const two = entry.queries !== entry.keys;
  const chips = { tokens: queries, chosen: [chosen.token], label: two ? "from" : "" };
  run("queries", "chips", two ? chips : { ...chips, weights: table(row) }, ({ token }) => go({ token }));
  find("keys").hidden = !two;
  if (two) run("keys", "chips", { tokens: keys, chosen: [], weights: table(row), label: "to" }, () => {});
}

function showHead(entry, all, row) {
  const [queries, keys] = [page.tokens[entry.queries], page.tokens[entry.keys]];
  const shared = { z: table(all), queries, keys, row: chosen.token };
  const name = `${entry.title}, head ${chosen.head}`;
  for (const view of ["head", "lines"]) find(view).hidden = view !== chosen.view;
  if (chosen.view === "head") {
    const visible = row.reduce((count, weight) => count + (weight !== GAP), 0);
    run("head", "head", { ...shared, title: name, uniform: 1 / Math.max(1, visible) }, ({ token }) => go({ token }));
  } else {
    run("lines", "lines", { ...shared, title: name, names: [name], cut: 0.01 }, ({ token }) => go({ token }));
  }
}

function show() {
  const entry = page.entries[chosen.entry];
  const all = weightsOf(chosen.entry, chosen.head);
  const columns = page.tokens[entry.keys].length;
  const row = all.subarray(chosen.token * columns, (chosen.token + 1) * columns);
  const number = find("token");
  [number.max, number.value] = [page.tokens[entry.queries].length - 1, chosen.token];
  find("finding").textContent = finding(chosen.entry, chosen.head, chosen.token, row);
  showTokens(entry, row);
  showHead(entry, all, row);
  run("overview", "overview", {
    z: table(pictures), shapes: page.shapes, names: page.entries.map(({ name }) => name),
    entry: chosen.entry, head: chosen.head,
  }, ({ entry: to, head }) => go({ entry: to, head }));
}

/** Changes the selection where the numbers for it are here, else says why not. */
function go(to) {
  const wanted = { ...chosen, ...to };
  const { queries, name } = page.entries[wanted.entry];
  const here = weightsOf(wanted.entry, wanted.head) !== null;
  find("notice").textContent = here ? "" : `Of ${name}, head ${wanted.head}, this file holds the small picture alone.`;
  if (here) Object.assign(chosen, wanted, { token: Math.min(wanted.token, page.tokens[queries].length - 1) });
  show();
}

document.querySelector("fieldset").onchange = (event) => go({ view: event.target.value });
find("token").onchange = ({ target }) => go({ token: Math.max(0, Math.round(Number(target.value) || 0)) });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
show();
