// Sample-rate conversion of a stream: polyphase windowed sinc, near to soxr's (kws/audio/resample.py).

const PASSBAND = 0.913; // of the lower Nyquist frequency: flat up to here, silent from the lower Nyquist frequency on
const ATTENUATION = 126; // dB
const BETA = 0.1102 * (ATTENUATION - 8.7);

function besselI0(x) {
  let sum = 1;
  let term = 1;
  for (let n = 1; term > 1e-18 * sum; n += 1) {
    term *= (x / (2 * n)) ** 2;
    sum += term;
  }
  return sum;
}

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

/** One stream from `rateIn` to `rateOut` Hz. Output sample n is the input, band-limited, at the time n / rateOut. */
export class Resampler {
  constructor(rateIn, rateOut) {
    const divisor = gcd(rateIn, rateOut);
    this.up = rateOut / divisor;
    this.down = rateIn / divisor;
    const nyquist = 0.5 * Math.min(1, this.up / this.down); // cycles per input sample
    this.cutoff = (nyquist * (1 + PASSBAND)) / 2;
    this.half = Math.ceil((ATTENUATION - 7.95) / (14.36 * nyquist * (1 - PASSBAND)) / 2);
    this.taps = new Map(); // by phase: weights of the 2 * half samples around an output sample
    this.reset();
  }

  /** Begin a new stream. */
  reset() {
    this.received = 0; // samples of the stream
    this.made = 0;
    this.origin = -this.half; // sample of the stream at buffer[0]
    this.buffer = new Float32Array(this.half);
  }

  /** The next input (Float32Array) -> the output that it completes. */
  process(samples) {
    if (this.up === this.down) return Float32Array.from(samples);
    this.received += samples.length;
    const joined = new Float32Array(this.buffer.length + samples.length);
    joined.set(this.buffer);
    joined.set(samples, this.buffer.length);
    const output = [];
    for (;;) {
      const time = this.made * this.down; // of the next output sample, in samples of the input times `up`
      const first = Math.floor(time / this.up) - this.half + 1 - this.origin;
      if (first + 2 * this.half > joined.length) {
        this.buffer = joined.slice(Math.max(0, first));
        this.origin += Math.max(0, first);
        return Float32Array.from(output);
      }
      const weights = this.#weights(time % this.up);
      let sum = 0;
      for (let i = 0; i < weights.length; i += 1) sum += weights[i] * joined[first + i];
      output.push(sum);
      this.made += 1;
    }
  }

  /** The rest of the output, as if silence followed; then a new stream begins. */
  flush() {
    if (this.up === this.down) return new Float32Array(0);
    const missing = Math.round((this.received * this.up) / this.down) - this.made;
    const rest = this.process(new Float32Array(2 * this.half + 1)).slice(0, missing);
    this.reset();
    return rest;
  }

  #weights(phase) {
    if (!this.taps.has(phase)) {
      const weights = new Float64Array(2 * this.half);
      for (let i = 0; i < weights.length; i += 1) {
        const distance = i - this.half + 1 - phase / this.up;
        if (Math.abs(distance) >= this.half) continue;
        const x = 2 * this.cutoff * distance;
        const sinc = x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
        const window = besselI0(BETA * Math.sqrt(1 - (distance / this.half) ** 2)) / besselI0(BETA);
        weights[i] = 2 * this.cutoff * sinc * window;
      }
      this.taps.set(phase, weights);
    }
    return this.taps.get(phase);
  }
}
