// The metadata of an ONNX file: which there must be, and within which bounds. The rules of kws/runtime/contract.py.

import { DEFAULTS, POOLINGS, SCORES } from "./detector.js";

export const FORMAT = 2; // what is written
export const OLDEST_FORMAT = 1; // that is read
const KINDS = ["commands"];
const MOST_POINTS = 100;
const [MOST_LABELS, LONGEST_LABEL, MOST_SAMPLES, LONGEST_MS, MOST_BIAS] = [10000, 64, 2 ** 24, 60000, 600];
const RATES = [1000, 384000];
const LENGTHS = ["hop_length", "frame_length", "block_size", "clip_length", "state_size"];
const SIZES = { sample_rate: RATES, ...Object.fromEntries(LENGTHS.map((key) => [key, [1, MOST_SAMPLES]])) };
const FRONTEND = {
  sample_rate: RATES,
  win_ms: [0.01, 10000],
  hop_ms: [0.01, 10000],
  n_fft: [2, 2 ** 16],
  n_mels: [1, 2 ** 15],
  n_mfcc: [1, 2 ** 15],
  f_min: [0, 384000],
  f_max: [0, 384000],
  log_offset: [1e-30, 1],
};
const MEL_SCALES = ["htk", "slaney"]; // files from before it was an option are of the first
const WHOLE = ["sample_rate", "n_fft", "n_mels", "n_mfcc"];
const DURATIONS = ["smoothing_ms", "min_duration_ms", "refractory_ms", "hold_ms"];

const isTable = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isList = (value) => Array.isArray(value) && value.every((entry) => typeof entry === "string");
const isWithin = (value, [least, most]) => typeof value === "number" && least <= value && value <= most;
const isAbove = (value, [low, high]) => isWithin(value, [low, high]) && value > low;
const THRESHOLDS = { posterior: [0, 1], log_ratio: [-100, 100] };

/** What is wrong with the metadata of a file, each value read from JSON; null: nothing. */
export function contradiction(metadata) {
  if (!("kws_format" in metadata)) return "its metadata has no kws_format; export it with kws";
  const form = metadata.kws_format;
  if (!Number.isInteger(form) || !isWithin(form, [OLDEST_FORMAT, FORMAT])) {
    return `its format is ${form}; use the version of kws that it was made with`;
  }
  const keys = ["labels", ...Object.keys(SIZES), "frontend", "detector", ...(form > 1 ? ["kind"] : [])];
  const missing = keys.filter((key) => !(key in metadata));
  if (missing.length) return `its metadata has no ${missing.join(", ")}`;
  if (form > 1 && !KINDS.includes(metadata.kind)) return `its kind is ${metadata.kind}, which this page does not run`;
  const faults = [...labelFaults(metadata.labels), ...sizeFaults(metadata)];
  for (const key of ["frontend", "detector", "model", "card"]) if (!isTable(metadata[key] ?? (key in metadata ? null : {}))) faults.push(`${key} is not a table`);
  if (!faults.length) faults.push(...frontendFaults(metadata), ...detectorFaults(metadata));
  if (!faults.length && form > 1) faults.push(...pointFaults(metadata));
  return faults[0] ?? null;
}

/** The detector of a model as its default operating point sets it. */
export function defaultDetector({ detector, operating_points = [], fa_per_hour }) {
  const point = operating_points.find((each) => each.fa_per_hour === fa_per_hour);
  return point ? { ...detector, thresholds: { ...detector.thresholds, ...point.thresholds } } : detector;
}

function* pointFaults(metadata) {
  const { operating_points: points = [], fa_per_hour } = metadata;
  if (!Array.isArray(points) || points.length > MOST_POINTS) {
    yield `operating_points is no list of at most ${MOST_POINTS}`;
    return;
  }
  const needed = ["fa_per_hour", "thresholds", "hours", "false_alarms", "fa_interval", "extrapolated"];
  const known = [...needed, "events", "misses", "frr_interval"];
  const isPair = (value) => Array.isArray(value) && value.length === 2 && value.every(Number.isFinite);
  for (const point of points) {
    if (!isTable(point)) yield "an operating point is no table";
    else {
      const wrong = [...needed.filter((key) => !(key in point)), ...Object.keys(point).filter((k) => !known.includes(k))];
      if (wrong.length) yield `an operating point has an unknown or lacks the key ${wrong[0]}`;
      const { false_alarms, events = 0, misses = 0, fa_interval, frr_interval = [0, 1], extrapolated } = point;
      for (const value of [point.fa_per_hour, point.hours]) {
        if (!isAbove(value, [0, 1e6])) yield "fa_per_hour and hours of an operating point must be above 0";
      }
      for (const value of [false_alarms, events, misses]) {
        if (!Number.isInteger(value) || !isWithin(value, [0, 1e9])) yield `${value} is no count of an operating point`;
      }
      if (![fa_interval, frr_interval].every(isPair)) yield "an interval of an operating point is not two numbers";
      if (!isTable(point.thresholds) || typeof extrapolated !== "boolean") {
        yield "an operating point needs thresholds, a table, and extrapolated, true or false";
      } else yield* detectorFaults({ ...metadata, detector: { ...metadata.detector, thresholds: point.thresholds } });
    }
  }
  const promised = points.map((point) => point?.fa_per_hour);
  if (promised.some((value, i) => i && value <= promised[i - 1])) {
    yield `operating_points are for ${promised} false alarms an hour; each must be higher than the one before`;
  }
  if (points.length && !promised.includes(fa_per_hour)) yield `fa_per_hour is none of its operating points: ${promised}`;
}

function* labelFaults(labels) {
  if (!isList(labels) || new Set(labels).size < labels.length) yield "labels is not a list of different names";
  else if (labels.length < 2 || labels.length > MOST_LABELS || labels.every((label) => label.startsWith("_"))) {
    yield "labels must be a keyword and something else";
  } else if (labels.some((label) => !label || [...label].length > LONGEST_LABEL || /[/\\]|\p{C}/u.test(label))) {
    yield "labels holds one that is empty, too long or holds a slash or control character";
  }
}

function* sizeFaults(metadata) {
  for (const [key, bounds] of Object.entries(SIZES)) {
    if (!Number.isInteger(metadata[key]) || !isWithin(metadata[key], bounds)) {
      yield `${key} is ${metadata[key]}, not a whole number from ${bounds[0]} to ${bounds[1]}`;
    }
  }
  const { block_size, frame_length, hop_length, sample_rate } = metadata;
  if (block_size % frame_length)
    yield `block_size ${block_size} is no multiple of frame_length, ${frame_length} samples`;
  if (frame_length % hop_length)
    yield `frame_length ${frame_length} is no multiple of hop_length, ${hop_length} samples`;
  if (1000 * frame_length < sample_rate) yield "frame_length is shorter than a millisecond";
}

function* frontendFaults({ frontend, sample_rate, hop_length }) {
  const known = ["kind", ...Object.keys(FRONTEND)];
  for (const key of known) if (!(key in frontend)) yield `frontend has no ${key}`;
  for (const key of Object.keys(frontend)) {
    if (![...known, "mel_scale"].includes(key)) yield `frontend has ${key}, which is unknown`;
  }
  if (!MEL_SCALES.includes(frontend.mel_scale ?? "htk")) yield `frontend.mel_scale is ${frontend.mel_scale}`;
  for (const [key, [least, most]] of Object.entries(FRONTEND)) {
    if (!isWithin(frontend[key], [least, most]) || (WHOLE.includes(key) && !Number.isInteger(frontend[key]))) {
      yield `frontend.${key} is ${frontend[key]}, not a number from ${least} to ${most}`;
    }
  }
  const { kind, n_fft, n_mels, n_mfcc, f_min, f_max } = frontend;
  const samples = (ms) => (ms * frontend.sample_rate) / 1000;
  const [win, hop] = [samples(frontend.win_ms), samples(frontend.hop_ms)];
  if (!["log_mel", "mfcc", "spectrogram"].includes(kind)) yield `frontend.kind is ${kind}, which is unknown`;
  for (const [key, length] of Object.entries({ win_ms: win, hop_ms: hop })) {
    if (Math.abs(length - Math.round(length)) > 1e-6) yield `frontend.${key} is not a whole number of samples`;
  }
  if (frontend.sample_rate !== sample_rate) yield "frontend.sample_rate is not sample_rate";
  if (Math.round(hop) !== hop_length) yield "frontend.hop_ms is not hop_length";
  if (hop > win) yield "frontend.hop_ms is longer than frontend.win_ms";
  if (n_fft < win) yield `frontend.n_fft ${n_fft} is shorter than the window`;
  if (n_mels > Math.floor(n_fft / 2) + 1) yield `frontend.n_mels ${n_mels} is more than there are bins`;
  if (n_mfcc > n_mels) yield `frontend.n_mfcc ${n_mfcc} is more than frontend.n_mels`;
  if (!(f_min < f_max)) yield `frontend.f_min ${f_min} is not below f_max ${f_max}`;
  if (f_max > sample_rate / 2) yield `frontend.f_max ${f_max} is above the Nyquist frequency`;
}

function* detectorFaults({ detector, labels }) {
  for (const key of Object.keys(detector)) if (!(key in DEFAULTS)) yield `detector has no option ${key}`;
  const { pooling, score, thresholds, suppress, threshold, release, unknown_bias, ...durations } = {
    ...DEFAULTS,
    ...detector,
  };
  if (!POOLINGS.includes(pooling)) yield `detector.pooling is ${pooling}, which is unknown`;
  if (!SCORES.includes(score)) yield `detector.score is ${score}, which is unknown`;
  for (const key of DURATIONS) {
    if (!isWithin(durations[key], [0, LONGEST_MS]))
      yield `detector.${key} is ${durations[key]}; it must be 0 to ${LONGEST_MS}`;
  }
  if (!isWithin(unknown_bias, [-MOST_BIAS, MOST_BIAS])) yield `detector.unknown_bias is ${unknown_bias}`;
  if (!isTable(thresholds)) yield "detector.thresholds is not a table";
  if (suppress !== null && !isTable(suppress)) yield "detector.suppress is not a table";
  if (!isAbove(release, [0, 1])) yield `detector.release is ${release}; it must be above 0 and at most 1`;
  const numbers = { threshold };
  const [low, high] = THRESHOLDS[score] ?? [0, 1];
  for (const [name, value] of Object.entries(thresholds ?? {})) numbers[`thresholds[${name}]`] = value;
  for (const [key, value] of Object.entries(numbers)) {
    if (!isAbove(value, [low, high])) yield `detector.${key} is ${value}; it must be above ${low}, at most ${high}`;
  }
  for (const [name, longer] of Object.entries(suppress ?? {})) {
    if (!isList(longer)) yield `detector.suppress[${name}] is not a list of names`;
  }
  const named = [thresholds, suppress].flatMap((table) => Object.keys(table ?? {}));
  for (const name of [...named, ...Object.values(suppress ?? {}).flat()]) {
    if (!labels.includes(name) || name.startsWith("_"))
      yield `detector names ${name}, which is no keyword of the model`;
  }
}
