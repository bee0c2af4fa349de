// SIP.js as it is, spoken to by the driver.
import { Inviter, Registerer, SessionState, UserAgent } from "sip.js";
import { AUDIO, Media, offer, report } from "./sound.js";

let agent;
let registerer;
let session;
const phone = { media: null };

const DESCRIPTION = { constraints: { audio: AUDIO, video: false } };
const status = ({ message }) => ({ status: message.statusCode, reason: message.reasonPhrase });

function follow(call) {
  session = call;
  call.delegate = {
    onSessionDescriptionHandler: (handler) => {
      phone.media = new Media(handler.peerConnection);
    },
  };
  call.stateChange.addListener((state) => {
    if (state === SessionState.Established) report("confirmed");
    if (state === SessionState.Terminated) report("ended");
  });
}

// A re-INVITE of ours; resolves with its answer.
function renegotiate(description) {
  return new Promise((resolve, reject) => {
    session.invite({
      sessionDescriptionHandlerOptions: description,
      requestDelegate: {
        onAccept: () => resolve(),
        onReject: (response) => reject(new Error(`refused: ${response.message.statusCode}`)),
      },
    });
  });
}

const register = () =>
  registerer.register({
    requestDelegate: {
      onAccept: () => report("registered"),
      onReject: (response) => report("register_failed", status(response)),
    },
  });

// As its documentation has it: the page reconnects, then registers again.
async function reconnect(error) {
  report("connection", { up: false });
  if (!error) return;
  while (!agent.isConnected()) {
    await agent.reconnect().catch(() => new Promise((wake) => setTimeout(wake, 500)));
  }
  await register();
}

phone.verbs = {
  async start({ url, uri, token }) {
    agent = new UserAgent({
      uri: UserAgent.makeURI(uri),
      transportOptions: { server: url },
      authorizationUsername: token,
      authorizationPassword: token,
      sessionDescriptionHandlerFactoryOptions: { iceGatheringTimeout: 1000 },
      logBuiltinEnabled: false,
      delegate: {
        onConnect: () => report("connection", { up: true }),
        onDisconnect: reconnect,
        onInvite(invitation) {
          follow(invitation);
          const { from, to } = invitation.request;
          report("incoming", { from: from.uri.user, to: to.uri.user });
        },
      },
    });
    registerer = new Registerer(agent);
    await agent.start();
    await register();
  },
  async stop() {
    await registerer.unregister();
    await agent.stop();
  },
  async call({ target }) {
    const options = { sessionDescriptionHandlerOptions: DESCRIPTION };
    follow(new Inviter(agent, UserAgent.makeURI(target), options));
    await session.invite({
      requestDelegate: {
        onProgress: (response) => report("ringing", status(response)),
        onReject: (response) => report("failed", status(response)),
      },
    });
  },
  answer: () => session.accept({ sessionDescriptionHandlerOptions: DESCRIPTION }),
  reject: ({ code = 486 }) => session.reject({ statusCode: code }),
  hangup: () => (session.state === SessionState.Established ? session.bye() : session.cancel()),
  hold: () => renegotiate({ ...DESCRIPTION, hold: true }),
  resume: () => renegotiate({ ...DESCRIPTION, hold: false }),
  keys({ digits }) {
    session.sessionDescriptionHandler.sendDtmf(digits);
  },
  restart: () => renegotiate({ ...DESCRIPTION, offerOptions: { iceRestart: true } }),
};

offer(phone);
