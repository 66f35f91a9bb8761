// Orders, with the token that came behind the # of the address.
"use strict";

const QUESTIONS = {
  engage: ["Engage autonomy?", "The policy will move the arm as soon as there is a task. Is everybody clear of it?", "Yes, engage"],
  reset: ["Reset the e-stop?", "The latch is released and the gate goes to HOLD. Is the cause of the stop gone?", "Yes, reset"],
};
let token = "";

function useToken(text) {
  token = text.trim();
  if (token) sessionStorage.setItem("token", token);
  else sessionStorage.removeItem("token");
  byId("token-missing").hidden = Boolean(token);
}

function takeToken() { // out of the address, so that it is not copied with it
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) history.replaceState(null, "", location.pathname);
  useToken(given ?? sessionStorage.getItem("token") ?? "");
}

async function order(name, body = {}) {
  say("…");
  try {
    const answer = await fetch(`/${name}`, {
      method: "POST", headers: {"Content-Type": "application/json", "X-Token": token}, body: JSON.stringify(body), signal: AbortSignal.timeout(20000),
    });
    const told = await answer.json();
    if (answer.ok) say(`✓ ${told.said}`);
    else say(`✗ Not done: ${told.error ?? told.said}`);
    if (answer.status === 403 && told.error?.includes("token")) useToken("");
    return answer.ok;
  } catch {
    say("✗ No answer: the order may not have arrived.");
    return false;
  }
}

let asked = null; // the order that waits for a yes, and the gate's epoch when it was asked

function ask(name) {
  if (gate.epoch === null) return say("✗ Not done: the gate's state is not known.");
  asked = {name, epoch: gate.epoch};
  const [title, words, yes] = QUESTIONS[name];
  set(byId("confirm-title"), title);
  set(byId("confirm-words"), `${words} The gate is in ${gate.mode}.`);
  set(byId("confirm-yes"), yes);
  byId("confirm").showModal();
  byId("confirm-no").focus();
}

byId("confirm-no").addEventListener("click", () => byId("confirm").close());
byId("confirm-yes").addEventListener("click", () => {
  byId("confirm").close();
  order(asked.name, {epoch: asked.epoch});
});
document.addEventListener("click", event => {
  const {order: name, confirm} = event.target.dataset ?? {};
  if (name) order(name);
  if (confirm) ask(confirm);
});
const onSubmit = (id, act) => byId(id).addEventListener("submit", event => {
  event.preventDefault();
  act();
});
onSubmit("task-form", () => order("task", {instruction: byId("instruction").value}));
onSubmit("scene-form", () => order("scene", {task: byId("scene").value, seed: Number(byId("seed").value)}));
onSubmit("token-form", () => {
  useToken(byId("token").value);
  byId("token").value = "";
});
window.addEventListener("hashchange", takeToken);
takeToken();
