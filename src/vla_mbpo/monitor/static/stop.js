// The stop. It comes first and needs nothing else of the page: whatever else fails to load, this works.
"use strict";

const STOP_TRIES = 6, STOP_WAIT = 2000, STOP_PAUSE = 300; // ms
const stopPort = document.querySelector('meta[name="stop-port"]').content;
const stopWays = [`http://${location.hostname}:${stopPort}/stop`, "/stop"]; // its own port, and the page's

let latched = () => false; // whether the gate is known to have stopped; set by panels.js
let stopNumber = 0;

function say(text) {
  document.getElementById("said").textContent = text;
}

async function stopOnce() {
  const ways = stopWays.map(way => fetch(way, {method: "POST", priority: "high", keepalive: true, signal: AbortSignal.timeout(STOP_WAIT)})
    .then(answer => {
      answer.text().catch(() => null); // read to its end, else its connection is not free for the next stop
      if (!answer.ok) throw new Error(String(answer.status));
    }));
  await Promise.any(ways);
}

async function stop() {
  const number = ++stopNumber;
  for (let n = 1; n <= STOP_TRIES; n++) {
    try {
      await stopOnce();
      say(latched() ? "■ Stopped: the e-stop is latched." : "■ Stop sent.");
      return;
    } catch {
      if (number !== stopNumber) return; // a later press goes on trying
      say(`STOP NOT SENT (try ${n} of ${STOP_TRIES}): use another e-stop now.`);
    }
    await new Promise(done => setTimeout(done, STOP_PAUSE));
  }
}

let pointed = false; // this press has stopped when it began; its click is not another one

function onPointer(event) {
  pointed = Boolean(event.target.closest?.(".stop")) && event.button === 0;
  if (pointed) stop();
}

function onClick(event) { // without a pointer (detail 0): of the keyboard or of a screen reader
  if (event.target.closest?.(".stop") && (event.detail === 0 || !pointed)) stop();
  pointed = false;
}

function typing(target) {
  if (target.isContentEditable || target.tagName === "TEXTAREA") return true;
  return target.tagName === "INPUT" && !["button", "submit", "checkbox", "radio", "range"].includes(target.type);
}

function onKey(event) {
  const ours = event.code === "Escape" || event.key === "Escape" || (event.code === "Space" && !typing(event.target));
  if (!ours) return;
  if (event.code === "Space") event.preventDefault(); // neither scroll nor press the button that has the focus
  if (event.type === "keydown" && !event.repeat) stop();
}

document.addEventListener("pointerdown", onPointer, true);
document.addEventListener("click", onClick, true);
document.addEventListener("keydown", onKey, true);
document.addEventListener("keyup", event => { if (event.code === "Space" && !typing(event.target)) event.preventDefault(); }, true);
