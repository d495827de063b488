// On the audio thread: the microphone's samples, its first two channels averaged, through the engine 10 ms at a time.

import { Resampler } from "./resampler.js";
import { Spotter } from "./spotter.js";

const STARTING = 0.2; // seconds in which a browser's audio may stutter before it runs

class SpotterWorklet extends AudioWorkletProcessor {
  /** processorOptions: {model (loadModel), thresholds: [[keyword, score]]}. Messages: [keyword, score], or "stop". */
  constructor({ processorOptions: { model, thresholds } }) {
    super();
    this.spotter = new Spotter(model);
    for (const each of thresholds) this.spotter.setThreshold(...each);
    this.resampler = new Resampler(sampleRate, model.metadata.sample_rate);
    this.block = new Float32Array(128 * Math.ceil(sampleRate / 100 / 128));
    this.filled = 0;
    this.next = 0; // the frame that must come next: a jump is an overrun
    this.port.onmessage = ({ data }) => {
      if (data === "stop") this.stop();
      else this.spotter.setThreshold(...data);
    };
  }

  process([channels]) {
    if (this.stopped) return false;
    if (!channels.length) {
      this.next = 0; // the microphone pauses: that is no overrun
      return true;
    }
    const [left, right = left] = channels;
    const gap = this.next && currentTime > STARTING ? currentFrame - this.next : 0;
    this.next = currentFrame + left.length;
    for (let i = 0; i < left.length; i += 1) this.block[this.filled + i] = (left[i] + right[i]) / 2;
    this.filled += left.length;
    if (this.filled === this.block.length || gap) this.spot(this.block.slice(0, this.filled), gap);
    return true;
  }

  /** The next samples, into the engine; what it hears, to the page. */
  spot(samples, gap) {
    this.filled = 0;
    const begun = Date.now();
    const found = this.spotter.feed(this.resampler.process(samples));
    const { spectra, scores } = this.spotter;
    const power = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
    const [time, seconds] = [this.next / sampleRate, samples.length / sampleRate];
    this.port.postMessage({ found, spectra, scores, power, gap, time, seconds, busy: (Date.now() - begun) / 1000 });
  }

  stop() {
    this.stopped = true;
    const found = this.spotter.feed(this.resampler.process(this.block.slice(0, this.filled)));
    const { spectra } = this.spotter;
    this.port.postMessage({ found: [...found, ...this.spotter.flush()], spectra, stopped: true });
  }
}

registerProcessor("spotter", SpotterWorklet);
