// What the page shows: server-sent events of one kind per panel, and pictures.
"use strict";

const SILENT = 5000; // ms without any event after which the connection counts as lost
const RETRY = 1000; // ms
const gate = {mode: "unknown", epoch: null};
let source = null, heard = 0, pictured = false;

latched = () => gate.mode === "ESTOP";
const byId = id => document.getElementById(id);

function set(element, text) { // only what has changed: screen readers read changes aloud
  if (element.textContent !== text) element.textContent = text;
}

function tone(text) { // a second signal beside the words and the shape
  if (/^[■✗]/.test(text)) return "bad";
  return /^[▲?]/.test(text) ? "warn" : /^[●✓▶]/.test(text) ? "good" : "";
}

function rows(list, pairs) {
  while (list.children.length > 2 * pairs.length) list.lastElementChild.remove();
  while (list.children.length < 2 * pairs.length) list.append(document.createElement("dt"), document.createElement("dd"));
  pairs.forEach(([name, value], i) => {
    set(list.children[2 * i], name);
    set(list.children[2 * i + 1], value);
    list.children[2 * i + 1].className = tone(value);
  });
}

function cells(body, table) {
  body.replaceChildren(...table.map(values => {
    const row = document.createElement("tr");
    values.forEach((value, i) => {
      const cell = document.createElement(i ? "td" : "th");
      if (!i) cell.scope = "row";
      cell.textContent = value;
      cell.className = tone(String(value));
      row.append(cell);
    });
    return row;
  }));
}

const draw = {
  gate(state) {
    const before = gate.mode;
    Object.assign(gate, {mode: state.mode, epoch: state.epoch});
    rows(byId("gate"), state.rows);
    set(byId("mode"), state.rows[0][1]);
    byId("mode").className = tone(state.rows[0][1]);
    if (before !== "unknown" && before !== "ESTOP" && gate.mode === "ESTOP") say("■ Stopped: the e-stop is latched.");
  },
  verdicts(state) {
    rows(byId("verdicts"), state.rows);
    cells(byId("candidates"), state.candidates.map(c => [String(c.candidate), `${c.shape} ${c.verdict}`, c.success, c.cost, c.decision, c.why]));
  },
  risk(state) {
    set(byId("risk-words"), state.words);
    plotRisk(byId("plot"), state.points);
    const last = state.points.slice(-10).reverse();
    cells(byId("looks"), last.map(([t, risk, band, alarm]) => [(-t).toFixed(1), risk ?? "unknown", band ?? "unknown", alarm ? "ALARM" : "no"]));
  },
  rates(state) {
    rows(byId("rates"), state.rows);
    cells(byId("nodes"), state.nodes);
  },
  dream(state) {
    set(byId("dream-words"), state.words);
    const image = byId("dream"), at = `/dream?${state.number}`;
    if (state.number && !image.src.endsWith(at)) image.src = at;
    if (!state.number) image.hidden = true;
  },
  scene(state) {
    byId("scene-form").hidden = !state.task;
    const now = `${state.task} ${state.seed}`;
    if (state.task && byId("scene-form").dataset.now !== now) { // follow the stack, do not undo what is being chosen
      byId("scene-form").dataset.now = now;
      byId("scene").value = state.task;
      byId("seed").value = state.seed;
    }
  },
};
for (const name of ["task", "recording", "release", "training"]) draw[name] = state => rows(byId(name), state.rows);

function connection(text, lost) {
  set(byId("connection"), text);
  byId("connection").className = lost ? "lost" : "";
}

function lose() {
  source?.close();
  source = null;
  gate.epoch = null;
  gate.mode = "unknown";
  connection("■ NO CONNECTION to the stack: what is shown is old. The stop still tries.", true);
}

function listen() {
  if (source || document.hidden) return;
  source = new EventSource("/events");
  heard = Date.now();
  source.onerror = lose;
  const hear = () => {
    heard = Date.now();
    connection("● connected", false);
  };
  source.addEventListener("beat", hear);
  for (const [name, show] of Object.entries(draw)) {
    source.addEventListener(name, event => {
      hear();
      show(JSON.parse(event.data));
      document.documentElement.dataset[name] = String(1 + Number(document.documentElement.dataset[name] ?? 0));
    });
  }
  picture();
}

function picture() { // the stream of pictures; its first frame is a load, its end an error
  const image = byId("picture");
  image.onload = () => {
    pictured = true;
    byId("picture-words").hidden = true;
  };
  image.onerror = () => {
    byId("picture-words").hidden = false;
    set(byId("picture-words"), pictured ? "The pictures have stopped." : "No picture yet.");
  };
  image.src = `/picture?${Date.now()}`;
}

// A page that nobody sees keeps no connections: a browser has six for all of its windows.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return listen();
  source?.close();
  source = null;
  byId("picture").src = "";
});
byId("dream").addEventListener("load", () => { byId("dream").hidden = false; });
setInterval(() => {
  if (document.hidden) return;
  if (source && Date.now() - heard > SILENT) lose();
  if (!source) listen();
}, RETRY);
listen();
