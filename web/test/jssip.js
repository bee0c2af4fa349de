// JsSIP as it is, spoken to by the driver.
import JsSIP from "jssip";
import { AUDIO, Media, offer, report } from "./sound.js";

let agent;
let session;
const phone = { media: null };

const MEDIA = { mediaConstraints: { audio: AUDIO, video: false } };
const status = (message) => ({
  status: message?.status_code ?? 0,
  reason: message?.reason_phrase ?? "",
});
const done = (change) => new Promise((resolve) => change(resolve));
const connected = ({ peerconnection }) => {
  phone.media = new Media(peerconnection);
};

function follow(call) {
  session = call;
  call.on("progress", ({ originator, response }) => {
    if (originator === "remote") report("ringing", status(response));
  });
  call.on("confirmed", () => report("confirmed"));
  call.on("hold", ({ originator }) => report("hold", { originator }));
  call.on("unhold", ({ originator }) => report("unhold", { originator }));
  call.on("failed", ({ originator, message, cause }) =>
    report("failed", { originator, cause, ...status(message) }),
  );
  call.on("ended", ({ originator, cause }) => report("ended", { originator, cause }));
}

phone.verbs = {
  // `bearer`: the token as RFC 8898 has it; else as user name and password of a digest.
  start({ url, uri, token, bearer = false, settings = {} }) {
    agent = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(url)],
      uri,
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 2,
      ...(bearer
        ? { authorization_jwt: `Bearer ${token}` }
        : { authorization_user: token, password: token }),
      ...settings,
    });
    agent.on("connected", () => report("connection", { up: true }));
    agent.on("disconnected", () => report("connection", { up: false }));
    agent.on("registered", () => report("registered"));
    agent.on("unregistered", () => report("unregistered"));
    agent.on("registrationFailed", ({ response }) => report("register_failed", status(response)));
    agent.on("newRTCSession", ({ originator, session: call, request }) => {
      if (originator !== "remote") return;
      follow(call);
      call.on("peerconnection", connected);
      report("incoming", { from: request.from.uri.user, to: request.to.uri.user });
    });
    agent.start();
  },
  stop: () => agent.stop(),
  call({ target }) {
    follow(agent.call(target, { ...MEDIA, eventHandlers: { peerconnection: connected } }));
  },
  answer: () => session.answer(MEDIA),
  reject: ({ code = 486 }) => session.terminate({ status_code: code }),
  hangup: () => session.terminate(),
  hold: () => done((resolve) => session.hold({}, resolve)),
  resume: () => done((resolve) => session.unhold({}, resolve)),
  keys: ({ digits }) => session.sendDTMF(digits, { transportType: "RFC2833" }),
  restart: () =>
    done((resolve) => session.renegotiate({ rtcOfferConstraints: { iceRestart: true } }, resolve)),
};

offer(phone);
