// What SIP says, in words for a person.

const STATUSES = {
  401: "The relay does not accept this token",
  403: "The relay does not allow that",
  404: "Nobody here has that number or name",
  408: "There was no answer",
  410: "That number is not in use any more",
  423: "The relay wants to be asked less often",
  480: "They cannot be reached right now",
  482: "The call went round in a circle",
  483: "The call went round in a circle",
  484: "That number is not complete",
  486: "They are busy",
  487: "The call was ended before it was answered",
  488: "Both sides have no audio format in common",
  500: "Something went wrong in the relay",
  502: "Something went wrong on the other side",
  503: "The region takes no more calls right now",
  504: "The other side said nothing in time",
  600: "They are busy",
  603: "They do not want to answer",
  604: "Nobody here has that number or name",
};

// What JsSIP says where there was no SIP response.
const CAUSES = {
  "Connection Error": "The connection to the relay was lost",
  "Request Timeout": "The relay did not answer in time",
  "User Denied Media Access": "The browser gave this page no microphone",
  "WebRTC Error": "The browser could not set up the audio",
  "Bad Media Description": "The browser could not use the audio that was offered",
  "RTP Timeout": "No audio arrived any more",
  "No Answer": "There was no answer",
  Canceled: "The caller gave up",
  Rejected: "The call was rejected",
  Expires: "There was no answer in time",
  "Missing SDP": "The other side described no audio",
  "No ACK": "The other side fell silent",
};

// The relay's own sentence: of a Warning, a challenge, or a Reason.
function detail(message) {
  const warning = message?.getHeader?.("Warning")?.match(/"(.*)"\s*$/)?.[1];
  const error = message?.getHeader?.("WWW-Authenticate")?.match(/error_description="([^"]*)"/)?.[1];
  const reason = message?.getHeader?.("Reason")?.match(/text="([^"]*)"/)?.[1];
  return warning ?? error ?? reason ?? "";
}

// Why something failed or ended: `message` is SIP's where there is one, `cause` JsSIP's.
export function why(message, cause) {
  const status = message?.status_code;
  const text = STATUSES[status] ?? CAUSES[cause] ?? (status ? message.reason_phrase : cause);
  const more = detail(message);
  return more ? `${text}: ${more}` : text;
}
