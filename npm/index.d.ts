/** A model, ready for any number of spotters: plain data, which postMessage can take to a worker or an AudioWorklet. */
export interface Model {
  readonly metadata: { readonly sample_rate: number; readonly block_size: number; readonly [key: string]: unknown };
  readonly block: Uint32Array;
  readonly module: WebAssembly.Module;
  /** In the order of `posteriors` and `scores`. */
  readonly labels: readonly string[];
  /** Those labels that can be detected. */
  readonly keywords: readonly string[];
}

/** One utterance of a keyword; times in seconds from the start of the stream. */
export interface Detection {
  keyword: string;
  score: number;
  start: number;
  end: number;
  /** When it was known. */
  time: number;
}

/** Options of the detector that replace those of the model (`DetectorConfig` of the Python library). */
export interface DetectorOptions {
  pooling?: "sum" | "mean";
  smoothing_ms?: number;
  score?: "posterior" | "log_ratio";
  threshold?: number;
  thresholds?: Record<string, number>;
  release?: number;
  unknown_bias?: number;
  min_duration_ms?: number;
  refractory_ms?: number;
  hold_ms?: number;
  suppress?: Record<string, string[]> | null;
}

/**
 * Load an ONNX file made by kws: its address, a path in Node, or its bytes. `engine`: kws.wasm, likewise, or compiled;
 * by default that of this package. Rejects with one sentence if the file is no model that the engine runs.
 */
export function loadModel(
  source: string | URL | ArrayBuffer | ArrayBufferView,
  engine?: string | URL | ArrayBuffer | ArrayBufferView | WebAssembly.Module,
): Promise<Model>;

/** One stream of audio through a model: feed it samples as they come, get detections. */
export class Spotter {
  /** A stream at time 0. */
  constructor(model: Model, options?: { detector?: DetectorOptions });
  readonly model: Model;
  readonly thresholds: Map<string, number>;
  setThreshold(keyword: string, score: number): void;
  /** Begin a new stream at time 0. */
  reset(): void;
  /** The next samples, any number, at the model's rate, in [-1, 1] or int16 -> the detections they bring. */
  feed(samples: Float32Array | Int16Array): Detection[];
  /** End the stream: its last samples, and what was held back. Then `reset`. */
  flush(): Detection[];
  /** What the last smoothing window gives each label. */
  readonly posteriors: Float32Array;
  /** What each label scores in the last window, on the scale of the thresholds. */
  readonly scores: number[];
  /** Log-mel pictures of the last call, one row per hop. */
  readonly spectra: Float32Array[];
}

/** What the microphone's 10 ms bring. */
export interface Heard {
  found: Detection[];
  spectra: Float32Array[];
  scores?: number[];
  /** Mean square of the samples. */
  power?: number;
  /** Samples that were lost before these. */
  gap?: number;
  /** Seconds since the start, their length, and the time that they took. */
  time?: number;
  seconds?: number;
  busy?: number;
  /** The last message: the microphone was closed. */
  stopped?: boolean;
}

/** An open microphone. */
export interface Microphone {
  readonly name: string;
  readonly rate: number;
  now(): number;
  setThreshold(keyword: string, score: number): void;
  close(): Promise<void>;
}

/**
 * Open the microphone and spot on the audio thread. `spotter` gives model and thresholds, `take` gets what each 10 ms
 * bring, `lost` is called when the device is gone. Rejects with one sentence that says what to do.
 */
export function openMicrophone(
  spotter: Spotter,
  take: (heard: Heard) => void,
  lost: () => void,
): Promise<Microphone>;

/** An audio file -> mono samples at `rate` Hz (browsers only). */
export function readFile(file: File, rate: number): Promise<Float32Array>;

/** Sample-rate conversion of a stream. */
export class Resampler {
  constructor(rateIn: number, rateOut: number);
  reset(): void;
  process(samples: Float32Array): Float32Array;
  flush(): Float32Array;
}
