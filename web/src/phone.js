// The phone: JsSIP behind the few words that the page needs. It has one call at a time.
import JsSIP from "jssip";
import { why } from "./words.js";

const MEDIA = { mediaConstraints: { audio: true, video: false } };

// Events: "line" {state, why}; "call" {state, why, peer}; "media" {connection, heard};
// "track" {sent}. A line is away, connecting, here or refused; a call is calling, ringing,
// incoming, talking, held or over.
export class Phone extends EventTarget {
  #agent;
  #domain;
  #session = null;
  #connection = null;
  #moved = false;

  constructor(url, token) {
    super();
    this.#domain = new URL(url).host.replace(/:\d+$/, "");
    this.#agent = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(url)],
      uri: `sip:${token.identity}@${this.#domain}`,
      authorization_jwt: `Bearer ${token.text}`, // RFC 8898
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 8,
      user_agent: "relay demo page",
    });
    this.#follow();
  }

  start() {
    this.#tell("line", { state: "connecting" });
    this.#agent.start();
  }

  stop() {
    this.#agent.stop();
  }

  #tell(event, detail) {
    this.dispatchEvent(new CustomEvent(event, { detail }));
  }

  #follow() {
    const agent = this.#agent;
    agent.on("disconnected", () => {
      this.#moved = this.#session !== null;
      this.#tell("line", { state: "away", why: "The connection to the relay is lost, trying again" });
    });
    agent.on("registered", () => {
      this.#tell("line", { state: "here" });
      if (this.#moved) this.#restartIce();
    });
    agent.on("registrationFailed", ({ response, cause }) =>
      this.#tell("line", { state: "refused", why: why(response, cause) }),
    );
    agent.on("newRTCSession", ({ originator, session, request }) => {
      if (originator !== "remote") return;
      if (this.#session) {
        session.terminate({ status_code: 486 });
        return;
      }
      const { display_name: name, uri } = request.from;
      session.on("peerconnection", ({ peerconnection }) => this.#hear(peerconnection));
      this.#watch(session, name || uri.user);
      this.#tell("call", { state: "incoming", peer: name || uri.user });
    });
  }

  #watch(session, peer) {
    this.#session = session;
    const tell = (state, reason) => this.#tell("call", { state, peer, why: reason });
    const over = (reason) => {
      this.#session = this.#connection = null;
      tell("over", reason);
    };
    session.on("progress", ({ originator }) => originator === "remote" && tell("ringing"));
    session.on("confirmed", () => tell("talking"));
    session.on("hold", ({ originator }) => tell("held", originator));
    session.on("unhold", () => {
      const held = session.isOnHold();
      tell(held.local || held.remote ? "held" : "talking", held.local ? "local" : "remote");
    });
    session.on("failed", ({ originator, message, cause }) =>
      over(originator === "local" && cause === "Canceled" ? "You hung up" : why(message, cause)),
    );
    session.on("ended", ({ originator, message, cause }) => {
      if (originator === "local") return over("You hung up");
      over(cause === "Terminated" ? "They hung up" : why(message, cause));
    });
  }

  // What is heard, and what is sent once it is known.
  #hear(connection) {
    this.#connection = connection;
    connection.addEventListener("track", ({ track }) =>
      this.#tell("media", { connection, heard: track }),
    );
    connection.addEventListener("connectionstatechange", () => {
      if (connection.connectionState === "connected") {
        const sent = connection.getSenders().find((sender) => sender.track)?.track;
        this.#tell("track", { sent });
      }
      if (connection.connectionState === "failed") this.#restartIce();
    });
  }

  // The network may be another one: new candidates, the same call.
  #restartIce() {
    this.#moved = false;
    if (!this.#session?.isEstablished()) return;
    this.#session.renegotiate({ rtcOfferConstraints: { iceRestart: true } });
  }

  call(target) {
    const user = target.replace(/[\s()-]/g, "");
    const session = this.#agent.call(`sip:${encodeURIComponent(user)}@${this.#domain}`, {
      ...MEDIA,
      eventHandlers: { peerconnection: ({ peerconnection }) => this.#hear(peerconnection) },
    });
    this.#watch(session, target);
    this.#tell("call", { state: "calling", peer: target });
  }

  answer() {
    this.#session?.answer(MEDIA);
  }

  // Rejects, cancels or ends, whichever the call is at.
  hangUp() {
    const rings = this.#session?.direction === "incoming" && !this.#session.isEstablished();
    this.#session?.terminate(rings ? { status_code: 603 } : {});
  }

  mute(on) {
    this.#session?.[on ? "mute" : "unmute"]({ audio: true });
  }

  hold(on) {
    return this.#session?.[on ? "hold" : "unhold"]() ?? false;
  }

  press(key) {
    this.#session?.sendDTMF(key, { transportType: "RFC2833" });
  }
}
