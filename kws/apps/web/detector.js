// What decides: a model's detector options as the engine takes them. Twins in kws/runtime/detector.py, kws/c/detector.py.

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

/** Milliseconds as frames of logits, rounded up, at least one: the twin of `whole_frames` in kws/config.py. */
export function wholeFrames(milliseconds, sampleRate, frameLength) {
  return Math.max(1, Math.ceil((milliseconds * sampleRate) / 1000 / frameLength - 1e-9));
}

export const isKeyword = (label) => !label.startsWith("_");

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
