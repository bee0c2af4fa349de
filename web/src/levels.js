// How loud both directions are, for two meters that move.

const QUIETEST_DB = -60;

// One context for the page: browsers let it run once the user has clicked or typed.
const context = new AudioContext();
for (const gesture of ["click", "keydown"]) {
  addEventListener(gesture, () => context.resume(), { capture: true });
}

class Level {
  constructor(track) {
    this.analyser = new AnalyserNode(context, { fftSize: 1024 });
    this.source = context.createMediaStreamSource(new MediaStream([track]));
    this.source.connect(this.analyser);
    this.samples = new Float32Array(this.analyser.fftSize);
  }

  // 0 (silence) to 1 (as loud as it gets), even to the ear.
  get value() {
    this.analyser.getFloatTimeDomainData(this.samples);
    const power = this.samples.reduce((sum, each) => sum + each * each, 0) / this.samples.length;
    return Math.max(0, 1 - (10 * Math.log10(power + 1e-12)) / QUIETEST_DB);
  }
}

// Shows tracks on meters until `stop`.
export class Levels {
  #levels = new Map();
  #frame = 0;

  show(meter, track) {
    this.#levels.get(meter)?.source.disconnect();
    this.#levels.set(meter, new Level(track));
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    for (const [meter, level] of this.#levels) {
      level.source.disconnect();
      meter.value = 0;
    }
    this.#levels.clear();
  }

  #draw() {
    for (const [meter, level] of this.#levels) meter.value = level.value;
    this.#frame = requestAnimationFrame(() => this.#draw());
  }
}
