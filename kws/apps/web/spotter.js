// Keyword spotting in JavaScript: a model file and the engine (kws/c) as WebAssembly, in pages, AudioWorklets and Node.
//
//     const spotter = new Spotter(await loadModel("gsc12.onnx"));
//     for (const { keyword, score, start, end } of spotter.feed(samples)) ...

import { makeBlock } from "./block.js";
import { contradiction, defaultDetector, FORMAT, OLDEST_FORMAT } from "./contract.js";
import { DEFAULTS, detectorOptions, isKeyword } from "./detector.js";
import { readOnnx } from "./onnx.js";
import { readWeights } from "./weights.js";

const MOST_AT_ONCE = 16000; // samples that are copied to the engine in one call
const MAX_SAMPLE = 10; // a sample beyond this was never scaled to [-1, 1]
const DETECTION_BYTES = 32; // kws_detection: label u32, score f32, start, end, time u64

/**
 * A model, ready for any number of spotters: plain data, which postMessage can take to an AudioWorklet.
 *
 * source: an ONNX file made by kws, its address or its bytes. engine: kws.wasm, likewise, or compiled. Throws an Error
 * of one sentence if the file is no model that the engine runs.
 */
export async function loadModel(source, engine = new URL("./kws.wasm", import.meta.url)) {
  const graph = readOnnx(await bytesOf(source));
  const { metadata } = graph;
  const what = contradiction(metadata);
  if (what) throw new Error(`This is not a kws model of format ${OLDEST_FORMAT} or ${FORMAT}: ${what}.`);
  const block = makeBlock(readWeights(graph));
  const module = engine instanceof WebAssembly.Module ? engine : await WebAssembly.compile(await bytesOf(engine));
  return { metadata, block, module, labels: metadata.labels, keywords: metadata.labels.filter(isKeyword) };
}

async function bytesOf(source) {
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  const url = new URL(source, globalThis.location?.href ?? import.meta.url);
  if (url.protocol === "file:") {
    const { readFile } = await import("node:fs/promises");
    return new Uint8Array(await readFile(url));
  }
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.pathname.split("/").pop()} is missing on this host.`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** One stream of audio through a model: feed it samples as they come, get detections. */
export class Spotter {
  #engine;
  #at = {}; // where things lie in the engine's memory

  /** A stream at time 0. detector: options that replace those of the model, as in its metadata. */
  constructor(model, { detector = {} } = {}) {
    this.model = model;
    const { metadata, block, module } = model;
    this.config = { ...DEFAULTS, ...defaultDetector(metadata), ...detector };
    const options = detectorOptions(metadata, this.config);
    this.#engine = new WebAssembly.Instance(module).exports;
    const engine = this.#engine;
    const [at, hops] = [this.#at, Math.ceil(Math.max(MOST_AT_ONCE, metadata.block_size) / metadata.hop_length) + 1];
    at.block = this.#room(block.byteLength, block);
    at.model = this.#room(engine.kws_host_model_bytes());
    this.#check(engine.kws_host_model_init(at.model, at.block, block.byteLength));
    const size = engine.kws_host_memory_bytes(at.model);
    at.stream = this.#room(engine.kws_host_stream_bytes());
    this.#check(engine.kws_host_init(at.stream, at.model, this.#room(size), size));
    this.#initDetector(options);
    at.samples = this.#room(4 * MOST_AT_ONCE);
    at.posteriors = this.#room(4 * options.n_labels);
    const most = options.n_labels * (Math.ceil((hops + options.hold) / options.refractory) + 2);
    at.found = this.#room(DETECTION_BYTES * most);
    at.gathered = this.#room(12);
    this.bands = metadata.frontend.kind === "spectrogram" ? block[10] : metadata.frontend.n_mels;
    at.spectra = this.#room(4 * this.bands * hops);
    this.#check(engine.kws_host_watch(at.stream, at.gathered));
    this.spectra = []; // of the hops of the last call, each a Float32Array [bands]: natural logarithms of power
  }

  /** The threshold of each keyword: a Map. */
  get thresholds() {
    const values = new Float32Array(this.#engine.memory.buffer, this.#at.thresholds, this.model.labels.length);
    return new Map(this.model.keywords.map((name) => [name, values[this.model.labels.indexOf(name)]]));
  }

  /** From now on a keyword needs another score. */
  setThreshold(keyword, score) {
    if (!this.model.keywords.includes(keyword)) throw new Error(`${keyword} is no keyword of this model.`);
    const values = new Float32Array(this.#engine.memory.buffer, this.#at.thresholds, this.model.labels.length);
    values[this.model.labels.indexOf(keyword)] = score;
  }

  /** Begin a new stream at time 0. */
  reset() {
    this.#check(this.#engine.kws_host_reset(this.#at.stream));
    this.#check(this.#engine.kws_host_detector_reset(this.#at.detector));
  }

  /** The next samples (Float32Array in [-1, 1] or Int16Array, at the model's rate) -> the detections they bring. */
  feed(samples) {
    const isFloat = samples instanceof Float32Array;
    if (!isFloat && !(samples instanceof Int16Array)) throw new Error("Samples must be a Float32Array or an Int16Array.");
    if (isFloat && !samples.every((x) => Math.abs(x) <= MAX_SAMPLE)) {
      throw new Error("A sample is not a number, or was not scaled to [-1, 1].");
    }
    this.spectra = [];
    const found = [];
    const room = new (isFloat ? Float32Array : Int16Array)(this.#engine.memory.buffer, this.#at.samples, MOST_AT_ONCE);
    for (let at = 0; at < samples.length; at += MOST_AT_ONCE) {
      const part = samples.subarray(at, at + MOST_AT_ONCE);
      room.set(part);
      const { stream, detector, samples: from, found: to } = this.#at;
      found.push(...this.#gather(() => this.#engine.kws_host_spot(stream, detector, from, isFloat, part.length, to)));
    }
    return found;
  }

  /** End the stream: its last samples, zeros to the end of a block, and what was held back. Then `reset`. */
  flush() {
    this.spectra = [];
    return this.#gather(() => this.#engine.kws_host_end(this.#at.stream, this.#at.detector, this.#at.found));
  }

  /** What the last smoothing window gives each label: its share of the evidence, Float32Array. */
  get posteriors() {
    const { detector, posteriors } = this.#at;
    this.#check(this.#engine.kws_host_posteriors(detector, posteriors));
    return new Float32Array(this.#engine.memory.buffer, posteriors, this.model.labels.length).slice();
  }

  /** What each label scores in the last window, on the scale of the thresholds; of keywords alone it has a meaning. */
  get scores() {
    const shares = Array.from(this.posteriors);
    if (this.config.score !== "log_ratio") return shares;
    const levels = shares.some((x) => x > 0) ? shares : shares.map(() => 1);
    const sum = (values) => values.reduce((a, b) => a + b, 0);
    const rivals = sum(levels.filter((_, k) => !isKeyword(this.model.labels[k])));
    const logarithm = (x) => Math.log(Math.max(x, 2 ** -126));
    return levels.map((own) => logarithm(own) - logarithm(rivals || sum(levels) - own));
  }

  /** Memory of the engine, filled with `content` or zeros: its address. */
  #room(bytes, content) {
    const { memory, __heap_base: base } = this.#engine;
    const at = Math.ceil((this.#at.top ?? base.value) / 16) * 16;
    this.#at.top = at + bytes;
    const missing = this.#at.top - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / 65536));
    if (content) new content.constructor(memory.buffer, at, content.length).set(content);
    return at;
  }

  #initDetector(options) {
    const { thresholds, bias, is_keyword, longer, release, ...numbers } = options;
    const at = this.#at;
    at.thresholds = this.#room(4 * thresholds.length, Float32Array.from(thresholds));
    const pointers = [
      at.thresholds,
      this.#room(4 * bias.length, Float32Array.from(bias)),
      this.#room(is_keyword.length, Uint8Array.from(is_keyword, Number)),
      this.#room(8 * longer.length, Uint32Array.from(longer.flat())),
    ];
    const { n_labels, frame_length, block_frames, pooling, score, window, min_frames, refractory, hold } = numbers;
    const fields = [n_labels, frame_length, block_frames, pooling, score, window, min_frames, refractory, hold];
    const bits = new Uint32Array(Float32Array.of(release).buffer)[0];
    const table = Uint32Array.of(...fields, bits, ...pointers, longer.length); // kws_detector_options
    const place = this.#room(table.byteLength, table);
    const size = this.#engine.kws_host_detector_memory_bytes(place);
    at.detector = this.#room(this.#engine.kws_host_detector_bytes());
    this.#check(this.#engine.kws_host_detector_init(at.detector, place, this.#room(size), size));
  }

  /** What one call into the engine finds; its spectra are kept. */
  #gather(call) {
    const { gathered, spectra, found: at } = this.#at;
    const { buffer } = this.#engine.memory;
    new Uint32Array(buffer, gathered, 3).set([spectra, this.bands, 0]);
    const count = this.#check(Number(call()));
    const rows = new Uint32Array(buffer, gathered, 3)[2];
    const numbers = new Float32Array(buffer, spectra, rows * this.bands).slice();
    for (let row = 0; row < rows; row += 1) {
      this.spectra.push(numbers.subarray(row * this.bands, (row + 1) * this.bands));
    }
    const view = new DataView(buffer, at);
    return Array.from({ length: count }, (_, i) => {
      const first = i * DETECTION_BYTES;
      const seconds = (field) =>
        Number(view.getBigUint64(first + field, true)) / this.model.metadata.sample_rate;
      return {
        keyword: this.model.labels[view.getUint32(first, true)],
        score: view.getFloat32(first + 4, true),
        start: seconds(8),
        end: seconds(16),
        time: seconds(24),
      };
    });
  }

  #check(result) {
    if (result < 0) throw new Error(`The engine cannot run this model (error ${result} of kws.h).`);
    return result;
  }
}
