// The spectrogram as the model sees it: kws/model/frontend.py's log-mel bands (before a DCT, if the model has one), to look at.

const LINEAR = 200 / 3; // Hz a step of Slaney's scale up to 1 kHz, and from there on 27 steps for a factor of 6.4
const SCALES = {
  htk: {
    mel: (hertz) => 2595 * Math.log10(1 + hertz / 700),
    hertz: (value) => 700 * (10 ** (value / 2595) - 1),
  },
  slaney: {
    mel: (hertz) => (hertz < 1000 ? hertz / LINEAR : 15 + (27 * Math.log(hertz / 1000)) / Math.log(6.4)),
    hertz: (value) => (value < 15 ? value * LINEAR : 1000 * 6.4 ** ((value - 15) / 27)),
  },
};

/** Features of a stream, frame by frame; `config`: `frontend` of a model's metadata. */
export class Features {
  constructor(config) {
    this.nFft = config.n_fft;
    this.hop = Math.round((config.hop_ms * config.sample_rate) / 1000);
    this.offset = config.log_offset;
    const length = Math.round((config.win_ms * config.sample_rate) / 1000);
    this.window = Float64Array.from({ length }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / length));
    const bins = this.nFft / 2 + 1;
    this.filters = config.kind === "spectrogram" ? null : melFilters(config, bins);
    this.size = this.filters ? config.n_mels : bins;
    this.reset();
  }

  /** Begin a new stream. */
  reset() {
    this.rest = new Float32Array(this.window.length - this.hop);
  }

  /** The next samples -> the frames that they complete, each a Float64Array of `size` logarithms of power. */
  process(samples) {
    const joined = new Float32Array(this.rest.length + samples.length);
    joined.set(this.rest);
    joined.set(samples, this.rest.length);
    const frames = [];
    let start = 0;
    for (; start + this.window.length <= joined.length; start += this.hop) {
      frames.push(this.#frame(joined.subarray(start, start + this.window.length)));
    }
    this.rest = joined.slice(start);
    return frames;
  }

  #frame(samples) {
    const real = new Float64Array(this.nFft);
    const imaginary = new Float64Array(this.nFft);
    for (let i = 0; i < samples.length; i += 1) real[i] = samples[i] * this.window[i];
    transform(real, imaginary);
    const power = (i) => real[i] ** 2 + imaginary[i] ** 2;
    return Float64Array.from({ length: this.size }, (_, band) => {
      if (!this.filters) return Math.log(power(band) + this.offset);
      const { first, weights } = this.filters[band];
      return Math.log(weights.reduce((sum, weight, i) => sum + weight * power(first + i), 0) + this.offset);
    });
  }
}

function melFilters(config, bins) {
  const { mel, hertz } = SCALES[config.mel_scale ?? "htk"];
  const low = mel(config.f_min);
  const step = (mel(config.f_max) - low) / (config.n_mels + 1);
  const edges = Array.from({ length: config.n_mels + 2 }, (_, i) => hertz(low + i * step));
  const frequencies = Array.from({ length: bins }, (_, i) => (i * config.sample_rate) / 2 / (bins - 1));
  return Array.from({ length: config.n_mels }, (_, band) => {
    const [left, centre, right] = edges.slice(band, band + 3);
    const height = config.mel_scale === "slaney" ? 2 / (right - left) : 1;
    const all = frequencies.map(
      (f) => height * Math.max(0, Math.min((f - left) / (centre - left), (right - f) / (right - centre))),
    );
    const first = Math.max(
      0,
      all.findIndex((weight) => weight > 0),
    );
    return { first, weights: all.slice(first).filter((weight) => weight > 0) };
  });
}

/** Fourier transform in place; of any length, fastest for powers of two. */
function transform(real, imaginary) {
  const n = real.length;
  if (n === 1) return;
  if (n % 2) {
    const [x, y] = [real.slice(), imaginary.slice()];
    for (let k = 0; k < n; k += 1) {
      real[k] = imaginary[k] = 0;
      for (let i = 0; i < n; i += 1) {
        const [c, s] = [Math.cos((2 * Math.PI * k * i) / n), -Math.sin((2 * Math.PI * k * i) / n)];
        real[k] += x[i] * c - y[i] * s;
        imaginary[k] += x[i] * s + y[i] * c;
      }
    }
    return;
  }
  const half = n / 2;
  const [evenR, evenI, oddR, oddI] = Array.from({ length: 4 }, () => new Float64Array(half));
  for (let i = 0; i < half; i += 1) {
    [evenR[i], evenI[i], oddR[i], oddI[i]] = [real[2 * i], imaginary[2 * i], real[2 * i + 1], imaginary[2 * i + 1]];
  }
  transform(evenR, evenI);
  transform(oddR, oddI);
  for (let k = 0; k < half; k += 1) {
    const [c, s] = [Math.cos((2 * Math.PI * k) / n), -Math.sin((2 * Math.PI * k) / n)];
    const [r, i] = [oddR[k] * c - oddI[k] * s, oddR[k] * s + oddI[k] * c];
    [real[k], imaginary[k]] = [evenR[k] + r, evenI[k] + i];
    [real[k + half], imaginary[k + half]] = [evenR[k] - r, evenI[k] - i];
  }
}
