// How a call sounds, from the browser's statistics.

const WINDOW_MS = 10_000;
const FRAME_MS = 20;
const LOSS_ROBUSTNESS = 25.1; // Bpl with packet loss concealment, ITU-T G.113 appendix I

// Mean opinion score after ITU-T G.107, as the relay's own figures have it, from the loss (0 to
// 1) and the delay in milliseconds from mouth to ear as far as it is known.
export function score(loss, delay) {
  const slow = 0.024 * delay + Math.max(0, 0.11 * (delay - 177.3));
  const gone = (9500 * loss) / (100 * loss + LOSS_ROBUSTNESS);
  const r = 93.2 - slow - gone;
  return r <= 0 ? 1 : 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6;
}

// Looks at a connection again and again; `read` is what the last ten seconds were like.
export class Quality {
  #connection;
  #past = [];

  constructor(connection) {
    this.#connection = connection;
  }

  async read() {
    const found = {};
    const all = await this.#connection.getStats();
    for (const entry of all.values()) {
      if (entry.type === "candidate-pair" && !entry.nominated) continue;
      if (entry.kind === undefined || entry.kind === "audio") found[entry.type] = entry;
    }
    const inbound = found["inbound-rtp"];
    if (!inbound) return null;
    const now = {
      at: performance.now(),
      received: inbound.packetsReceived,
      lost: inbound.packetsLost,
      held: inbound.jitterBufferDelay,
      emitted: inbound.jitterBufferEmittedCount,
    };
    this.#past.push(now);
    while (now.at - this.#past[0].at > WINDOW_MS) this.#past.shift();
    const rtt = 1000 * (found["candidate-pair"]?.currentRoundTripTime ?? 0);
    return {
      heard: this.#heard(now, 1000 * inbound.jitter, rtt),
      told: told(found["remote-inbound-rtp"], rtt),
      rtt,
      codec: all.get(inbound.codecId)?.mimeType.replace("audio/", ""),
    };
  }

  #heard(now, jitter, rtt) {
    const then = this.#past[0];
    const lost = Math.max(0, now.lost - then.lost);
    const expected = lost + now.received - then.received;
    const loss = expected > 0 ? lost / expected : 0;
    const played = now.emitted - then.emitted;
    const buffered = played > 0 ? (1000 * (now.held - then.held)) / played : FRAME_MS;
    return { loss, jitter, mos: score(loss, FRAME_MS + buffered + rtt / 2) };
  }
}

// What the relay reports of our own voice (RTCP).
function told(report, rtt) {
  if (!report) return null;
  const loss = report.fractionLost ?? 0;
  const jitter = 1000 * (report.jitter ?? 0);
  return { loss, jitter, mos: score(loss, FRAME_MS + Math.max(2 * jitter, FRAME_MS) + rtt / 2) };
}
