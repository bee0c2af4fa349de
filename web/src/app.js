// The page: what is shown when, and what its buttons do.
import { Levels } from "./levels.js";
import { Phone } from "./phone.js";
import { Quality } from "./quality.js";
import { read } from "./token.js";

const KEYS = "123456789*0#";
const KEPT = "token"; // in this tab's storage, until it closes
const ALMOST_MS = 120_000; // before a token expires

const at = (id) => document.getElementById(id);
const show = (id, shown) => (at(id).hidden = !shown);

let phone = null;
let call = null; // {state, peer, since, quality, levels, timer}
let settings = { listeners: [], region: "" };

function say(text, tone = "plain") {
  at("status").textContent = text;
  at("status").dataset.tone = tone;
}

// --- signing in

async function begin() {
  const answer = await fetch("settings");
  settings = await answer.json();
  at("region").textContent = `region ${settings.region}`;
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  // The token leaves the address bar, the history and whatever reads them.
  if (location.hash) history.replaceState(null, "", location.pathname);
  const token = given ?? sessionStorage.getItem(KEPT);
  if (token) signIn(token);
  else offerSignIn("Sign in with an access token.");
}

function offerSignIn(text, tone) {
  show("sign-in", true);
  show("phone", false);
  say(text, tone);
}

function signIn(text) {
  let token;
  try {
    token = read(text);
  } catch (error) {
    offerSignIn(error.message, "bad");
    return;
  }
  if (settings.listeners.length === 0) {
    offerSignIn("This relay has no listener for voice clients (ws: or wss: in sip.listen).", "bad");
    return;
  }
  sessionStorage.setItem(KEPT, token.text);
  at("who").textContent = token.identity;
  document.title = `${token.identity} – Voice client`;
  show("sign-in", false);
  show("phone", true);
  phone = new Phone(settings.listeners[0], token);
  phone.addEventListener("line", ({ detail }) => onLine(detail, token));
  phone.addEventListener("call", ({ detail }) => onCall(detail));
  phone.addEventListener("media", ({ detail }) => onMedia(detail));
  phone.addEventListener("track", ({ detail }) => detail.sent && onTrack(detail.sent));
  phone.start();
}

function signOut(text = "Signed out.", tone = "plain") {
  sessionStorage.removeItem(KEPT);
  phone?.stop();
  phone = null;
  at("token").value = "";
  document.title = "Voice client";
  offerSignIn(text, tone);
}

function onLine({ state, why }, token) {
  at("call").disabled = state !== "here" || call !== null;
  if (state === "refused") {
    if (!call) signOut(`${why}.`, "bad");
    else say(`${why}.`, "bad");
  } else if (state === "away") {
    say(`${why} …`, "bad");
  } else if (state === "connecting") {
    say("Connecting …");
  } else if (call) {
    say("The connection is back.", "good");
  } else {
    say("Ready. Others can call you.", "good");
    warnOfExpiry(token);
  }
}

function warnOfExpiry(token) {
  if (!token.expires) return;
  const wait = token.expires - Date.now() - ALMOST_MS;
  if (wait > 2 ** 31 - 1) return; // more than a timer holds
  const signedIn = phone;
  setTimeout(() => {
    if (phone === signedIn && !call) say("Your token expires soon: sign in with a new one.", "bad");
  }, Math.max(0, wait));
}

// --- a call

const STATES = {
  calling: (peer) => `Calling ${peer} …`,
  ringing: (peer) => `It rings at ${peer} …`,
  incoming: (peer) => `${peer} is calling you.`,
  talking: (peer) => `You are talking with ${peer}.`,
  held: (peer, who) => (who === "local" ? `You hold ${peer}.` : `${peer} holds you.`),
};

function onCall({ state, peer, why }) {
  if (state === "over") {
    endCall();
    say(`The call is over. ${why}.`, why.endsWith("hung up") ? "plain" : "bad");
    return;
  }
  call ??= { levels: new Levels(), since: 0, timer: setInterval(tick, 1000) };
  call.state = state;
  show("talk", true);
  at("peer").textContent = peer;
  at("call").disabled = true;
  const incoming = state === "incoming";
  show("ringing", incoming);
  show("running", !incoming);
  const up = state === "talking" || state === "held";
  if (up) call.since ||= Date.now();
  for (const id of ["mute", "hold"]) at(id).disabled = !up;
  at("hold").setAttribute("aria-pressed", state === "held" && why === "local");
  say(STATES[state](peer, why), up ? "good" : "plain");
  if (incoming) at("answer").focus();
}

function onMedia({ connection, heard }) {
  at("sound").srcObject = new MediaStream([heard]);
  call.quality = new Quality(connection);
  call.levels.show(at("level-heard"), heard);
  show("media", true);
}

function onTrack(sent) {
  call?.levels.show(at("level-sent"), sent);
}

function endCall() {
  clearInterval(call.timer);
  call.levels.stop();
  call = null;
  at("sound").srcObject = null;
  for (const id of ["talk", "media", "ringing"]) show(id, false);
  for (const id of ["mute", "hold"]) at(id).setAttribute("aria-pressed", false);
  at("keys").textContent = "none";
  at("clock").textContent = "0:00";
  for (const cell of document.querySelectorAll("td")) cell.textContent = "–";
  at("call").disabled = false;
}

async function tick() {
  if (call.since) {
    const seconds = Math.floor((Date.now() - call.since) / 1000);
    at("clock").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  }
  const found = await call.quality?.read();
  if (!found || !call) return;
  for (const [side, figures] of [["in", found.heard], ["out", found.told]]) {
    if (!figures) continue;
    at(`loss-${side}`).textContent = `${(100 * figures.loss).toFixed(1)} %`;
    at(`jitter-${side}`).textContent = `${figures.jitter.toFixed(0)} ms`;
    at(`mos-${side}`).textContent = figures.mos.toFixed(1);
  }
  at("rtt").textContent = `${found.rtt.toFixed(0)} ms`;
  at("codec").textContent = found.codec ?? "–";
}

function press(key) {
  phone.press(key);
  const keys = at("keys");
  keys.textContent = keys.textContent === "none" ? key : keys.textContent + key;
}

function toggle(button, change) {
  const on = button.getAttribute("aria-pressed") !== "true";
  change(on);
  return on;
}

// --- what the user does

for (const key of KEYS) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = key;
  button.addEventListener("click", () => press(key));
  at("keypad").append(button);
}

at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(at("token").value);
});
at("dial").addEventListener("submit", (event) => {
  event.preventDefault();
  phone.call(at("target").value.trim());
});
at("sign-out").addEventListener("click", () => signOut());
at("answer").addEventListener("click", () => phone.answer());
at("reject").addEventListener("click", () => phone.hangUp());
at("hang-up").addEventListener("click", () => phone.hangUp());
at("hold").addEventListener("click", () => toggle(at("hold"), (on) => phone.hold(on)));
at("mute").addEventListener("click", () => {
  at("mute").setAttribute("aria-pressed", toggle(at("mute"), (on) => phone.mute(on)));
});
document.addEventListener("keydown", ({ key, target, ctrlKey, metaKey, altKey }) => {
  const typing = target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
  const talking = call?.state === "talking";
  if (talking && !typing && !(ctrlKey || metaKey || altKey) && KEYS.includes(key)) press(key);
});

begin().catch(() => say("The relay does not answer. Is it still running?", "bad"));
