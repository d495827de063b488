// Logits of frames -> detections: what kws/runtime/posteriors.py, scores.py and detector.py do, frame by frame. No clock.

const MAX_LOGIT = 600;
const TINY = 2 ** -1022;

export const POOLINGS = ["sum", "mean"];

export const SCORES = ["posterior", "log_ratio"];

/** Of a bar or a slider: the scores that tell something, from the lowest to the highest. */
export const SCALES = { posterior: [0, 1], log_ratio: [-5, 15] };

export const DEFAULTS = {
  pooling: "sum",
  smoothing_ms: 1000,
  score: "posterior",
  threshold: 0.7,
  thresholds: {},
  unknown_bias: 0,
  release: 0.8,
  min_duration_ms: 0,
  refractory_ms: 500,
  suppress: null,
  hold_ms: 800,
};

const total = (values) => values.reduce((sum, value) => sum + value, 0);

/** Milliseconds as frames of logits, rounded up, at least one: the twin of `whole_frames` in kws/config.py. */
export function wholeFrames(milliseconds, sampleRate, frameLength) {
  return Math.max(1, Math.ceil((milliseconds * sampleRate) / 1000 / frameLength - 1e-9));
}

/** One frame's logits -> its evidence for each label; a label's posterior is its share of a window's evidence. */
export function evidence(logits, pooling) {
  const z = Array.from(logits);
  if (!z.every(Number.isFinite)) throw new Error("The model gave numbers that are not finite; it cannot be used.");
  if (pooling === "sum") return z.map((x) => Math.exp(Math.min(MAX_LOGIT, Math.max(-MAX_LOGIT, x))));
  if (pooling !== "mean") throw new Error(`The model pools by ${pooling}, which this page does not know.`);
  const highest = Math.max(...z);
  const powers = z.map((x) => Math.exp(x - highest));
  const sum = total(powers);
  return powers.map((x) => x / sum);
}

/** What a keyword scores in a window of evidence, computed as a level: its share, or its ratio to its rivals. */
class Score {
  constructor(kind, labels) {
    this.isRatio = kind === "log_ratio";
    const all = [...labels.keys()];
    this.keywords = all.filter((k) => !labels[k].startsWith("_"));
    this.rivals = all.filter((k) => labels[k].startsWith("_"));
  }

  /** The level of a score. */
  level(score) {
    return this.isRatio ? Math.exp(score) : score;
  }

  /** The score of a level. */
  ofLevel(level) {
    return this.isRatio ? Math.log(Math.max(level, TINY)) : level;
  }

  /** The level of label `k` that has gathered `own` evidence in a window of `sums`. */
  levelOf(k, own, sums) {
    const others = () => total(sums.filter((_, j) => j !== k));
    if (!this.isRatio) return own / (own + others());
    return own / Math.max(this.rivals.length ? total(this.rivals.map((j) => sums[j])) : others(), TINY);
  }

  /** Whether no other keyword stands in the way of `k`: for log ratios, none has more evidence. */
  leads(k, sums) {
    return !this.isRatio || this.keywords.every((j) => sums[k] >= sums[j]);
  }
}

/** Each keyword whose words stand together within longer keywords, and those: {"stop": ["stop music"]}. */
export function longerKeywords(keywords) {
  const spoken = new Map(keywords.map((name) => [name, ` ${name.replace(/[ _-]+/g, " ")} `]));
  const longer = {};
  for (const name of keywords) {
    const others = keywords.filter(
      (other) => spoken.get(other) !== spoken.get(name) && spoken.get(other).includes(spoken.get(name)),
    );
    if (others.length) longer[name] = others;
  }
  return longer;
}

/** The detections of one stream of logits; options as in a model's metadata (`detector`). */
export class Detector {
  constructor(labels, frameLength, sampleRate, config = {}, blockSize = 0) {
    this.config = { ...DEFAULTS, ...config };
    this.labels = labels;
    this.frameLength = frameLength;
    this.sampleRate = sampleRate;
    this.blockSize = blockSize || frameLength;
    this.keywords = new Map(
      [...labels.entries()].filter(([, name]) => !name.startsWith("_")).map(([k, name]) => [name, k]),
    );
    this.longer = this.config.suppress ?? longerKeywords([...this.keywords.keys()]);
    this.score = new Score(this.config.score, labels);
    this.thresholds = new Map();
    for (const name of this.keywords.keys()) {
      this.thresholds.set(name, this.config.thresholds[name] ?? this.config.threshold);
    }
    const frames = (ms) => wholeFrames(ms, sampleRate, frameLength);
    this.window = frames(this.config.smoothing_ms);
    this.minFrames = frames(this.config.min_duration_ms);
    this.refractory = frames(this.config.refractory_ms);
    this.hold = frames(this.config.hold_ms);
    this.reset();
  }

  /** Begin a new stream at time 0. */
  reset() {
    this.position = 0; // frames seen
    this.history = []; // evidence of the last frames, the newest last, at most a window
    this.posteriors = this.labels.map(() => 0);
    this.scores = this.labels.map(() => this.score.ofLevel(0));
    this.held = []; // {last frame to wait, k, detection}
    this.tracks = this.labels.map(() => ({
      active: false,
      releaseFrom: 0,
      freshFrom: -Infinity,
      run: 0,
      last: -Infinity,
    }));
  }

  /** The next frame's logits -> the detections that it brings. */
  process(logits) {
    const frame = this.position;
    const biased = Array.from(logits, (x, k) => (this.labels[k] === "_unknown_" ? x + this.config.unknown_bias : x));
    this.history.push(evidence(biased, this.config.pooling));
    if (this.history.length > this.window) this.history.shift();
    const sums = this.labels.map((_, k) => this.history.reduce((sum, each) => sum + each[k], 0));
    const all = total(sums);
    this.posteriors = sums.map((sum) => sum / all);
    this.scores = sums.map((sum, k) => this.score.ofLevel(this.score.levelOf(k, sum, sums)));
    this.position += 1;
    const found = [];
    for (const [name, k] of [...this.keywords].sort((a, b) => a[1] - b[1])) {
      const detection = this.#follow(name, k, frame, sums);
      if (detection) {
        found.push(...this.#releaseHeld(frame));
        found.push(...this.#arrange(name, k, frame, detection));
      }
    }
    return [...found, ...this.#releaseHeld(this.position)];
  }

  /** End the stream: the detections that still waited for a longer keyword. */
  flush() {
    return this.#releaseHeld(Infinity);
  }

  #follow(name, k, frame, sums) {
    const track = this.tracks[k];
    const limit = this.score.level(this.thresholds.get(name));
    const newest = this.history.at(-1);
    if (track.active) {
      const alone = this.score.levelOf(k, newest[k], newest);
      if (frame < track.releaseFrom || alone >= limit * this.config.release) return null;
      track.active = false;
      track.freshFrom = frame;
    }
    const origin = frame - this.history.length + 1; // frame of history[0]
    const since = Math.max(origin, track.freshFrom);
    const own = this.history.slice(since - origin).map((each) => each[k]);
    const level = this.score.levelOf(k, total(own), sums); // evidence that was reported counts no more
    track.run = level >= limit && this.score.leads(k, sums) ? track.run + 1 : 0;
    if (track.run < this.minFrames) return null;
    const highest = Math.max(...own);
    const strong = own.map((value, i) => (value >= 0.1 * highest ? since + i : -1)).filter((i) => i >= 0);
    Object.assign(track, { active: true, releaseFrom: frame + this.refractory, run: 0 });
    return {
      keyword: name,
      score: this.score.ofLevel(level),
      start: this.#seconds(strong[0]),
      end: this.#seconds(strong.at(-1) + 1),
      time: this.#decided(frame),
    };
  }

  /** Report a detection now, hold it back, or drop it: one of a longer keyword silences those it is made of. */
  #arrange(name, k, frame, detection) {
    this.tracks[k].last = frame;
    this.held = this.held.filter((held) => !(this.longer[held.detection.keyword] ?? []).includes(name));
    const longer = this.longer[name] ?? [];
    if (!longer.length) return [detection];
    if (longer.every((other) => frame - this.tracks[this.keywords.get(other)].last > this.hold)) {
      this.held.push({ last: frame + this.hold, k, detection });
    }
    return [];
  }

  #releaseHeld(frame) {
    const due = this.held.filter((held) => held.last < frame).sort((a, b) => a.last - b.last || a.k - b.k);
    this.held = this.held.filter((held) => held.last >= frame);
    return due.map(({ last, detection }) => ({ ...detection, time: this.#decided(Math.min(last, this.position - 1)) }));
  }

  #seconds(frame) {
    return (frame * this.frameLength) / this.sampleRate;
  }

  /** When a frame is known: the end of its block, seconds. */
  #decided(frame) {
    return (Math.ceil(((frame + 1) * this.frameLength) / this.blockSize) * this.blockSize) / this.sampleRate;
  }
}

export const isKeyword = (label) => !label.startsWith("_");

/** A model's options as `kws_detector_options` of kws_detector.h names them; metadata's `detector` may lack some. */
export function detectorOptions({ labels, frame_length, sample_rate, block_size }, given) {
  const config = { ...DEFAULTS, ...given };
  const frames = (ms) => wholeFrames(ms, sample_rate, frame_length);
  const longer = config.suppress ?? longerKeywords(labels.filter(isKeyword));
  const pairs = Object.entries(longer).flatMap(([name, others]) =>
    others.map((other) => [labels.indexOf(name), labels.indexOf(other)]),
  );
  return {
    n_labels: labels.length,
    frame_length,
    block_frames: block_size / frame_length,
    pooling: POOLINGS.indexOf(config.pooling),
    score: SCORES.indexOf(config.score),
    window: frames(config.smoothing_ms),
    min_frames: frames(config.min_duration_ms),
    refractory: frames(config.refractory_ms),
    hold: frames(config.hold_ms),
    release: config.release,
    thresholds: labels.map((name) => (isKeyword(name) ? config.thresholds[name] ?? config.threshold : 0)),
    bias: labels.map((name) => (name === "_unknown_" ? config.unknown_bias : 0)),
    is_keyword: labels.map(isKeyword),
    longer: pairs,
  };
}
