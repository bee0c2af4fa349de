// What a test page does with sound: speaks a file, and keeps what it hears.

// Chromium's fake microphone plays its file from the beginning for each new stream; whatever
// would change the sound is off, so that both ends can be compared.
export const AUDIO = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export const report = (event, fields = {}) => window.report({ event, ...fields });

// Speaks from the first word, in place of what the call began with.
export async function speak(connection) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: AUDIO });
  const sender = connection.getSenders().find((each) => each.track?.kind === "audio");
  const before = sender.track;
  await sender.replaceTrack(stream.getAudioTracks()[0]);
  before.stop();
}

// A remote track: played, as Chromium renders no other, and kept sample by sample.
class Ear {
  constructor(track) {
    this.rate = 0;
    this.length = 0;
    this.pieces = [];
    this.waiting = [];
    this.player = new Audio();
    this.player.srcObject = new MediaStream([track]);
    this.player.play().catch(() => undefined);
    this.reading = this.#read(new MediaStreamTrackProcessor({ track }).readable.getReader());
  }

  async #read(reader) {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const samples = new Float32Array(value.numberOfFrames);
      value.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
      this.rate = value.sampleRate;
      value.close();
      this.pieces.push(samples);
      this.length += samples.length;
      this.waiting = this.waiting.filter((enough) => !enough());
    }
  }

  // Forgets what was heard so far.
  clear() {
    this.pieces = [];
    this.length = 0;
  }

  // Until so many seconds were heard since the last `clear`.
  listen(seconds) {
    return new Promise((resolve) => {
      this.waiting.push(() => {
        const enough = this.length >= seconds * this.rate;
        if (enough) resolve();
        return enough;
      });
    });
  }

  // 16-bit PCM, mono, in base64.
  heard() {
    const samples = new Int16Array(this.length);
    let at = 0;
    for (const piece of this.pieces) {
      for (const value of piece) {
        samples[at++] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
      }
    }
    const octets = new Uint8Array(samples.buffer);
    let text = "";
    for (let from = 0; from < octets.length; from += 0x8000) {
      text += String.fromCharCode(...octets.subarray(from, from + 0x8000));
    }
    return { rate: this.rate, samples: btoa(text) };
  }
}

// The connection of a call, whichever library made it.
export class Media {
  constructor(connection) {
    this.connection = connection;
    this.ear = null;
    connection.addEventListener("connectionstatechange", () =>
      report("media", { state: connection.connectionState }),
    );
    connection.addEventListener("track", ({ track }) => {
      this.ear ??= new Ear(track);
    });
  }

  // What `getStats` says: `inbound` and its codec, what the relay reports of us, the path in use.
  async figures() {
    const all = await this.connection.getStats();
    const entries = [...all.values()];
    const one = (type) => entries.find((entry) => entry.type === type && entry.kind === "audio");
    const inbound = one("inbound-rtp");
    const transport = entries.find((entry) => entry.type === "transport");
    const pair = all.get(transport?.selectedCandidatePairId);
    return {
      inbound,
      codec: all.get(inbound?.codecId)?.mimeType,
      reported: one("remote-inbound-rtp"),
      ufrag: all.get(pair?.localCandidateId)?.usernameFragment,
    };
  }
}

// What the driver may ask of a page; `phone` is the library's part, whose objects stay here.
export function offer(phone) {
  const verbs = Object.entries(phone.verbs).map(([name, verb]) => [
    name,
    async (given) => void (await verb(given)),
  ]);
  window.phone = {
    speak: () => speak(phone.media.connection),
    clear: () => phone.media.ear.clear(),
    listen: ({ seconds }) => phone.media.ear.listen(seconds),
    heard: () => phone.media.ear.heard(),
    figures: () => phone.media.figures(),
    ...Object.fromEntries(verbs),
  };
}
