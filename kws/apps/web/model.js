// An ONNX file: its metadata, and streams of audio through it. What kws/runtime/onnx_model.py and kws/streaming.py do.

import { contradiction, defaultDetector, FORMAT, OLDEST_FORMAT } from "./contract.js";
import { Detector } from "./detector.js";

const METADATA_PROPS = 14; // the field of ONNX's ModelProto: {1: key, 2: value}, repeated

/** The metadata of an ONNX file (Uint8Array), each value JSON. Throws an Error for a file that is no kws model. */
export function readMetadata(bytes) {
  const metadata = {};
  const text = new TextDecoder();
  try {
    for (const [field, value] of fields(bytes)) {
      if (field !== METADATA_PROPS) continue;
      const entry = Object.fromEntries([...fields(value)].map(([part, content]) => [part, text.decode(content)]));
      try {
        metadata[entry[1]] = JSON.parse(entry[2]);
      } catch {
        metadata[entry[1]] = entry[2]; // not ours
      }
    }
  } catch {
    throw new Error("This is not an ONNX file.");
  }
  const what = contradiction(metadata);
  if (what) throw new Error(`This is not a kws model of format ${OLDEST_FORMAT} or ${FORMAT}: ${what}.`);
  return metadata;
}

/** The fields of a protobuf message as [number, content]; numbers that are not bytes are passed over. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length || scale > 2 ** 63) throw new Error("truncated");
      const byte = bytes[at++];
      value += (byte % 128) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const kind = key % 8;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      if (at + length > bytes.length) throw new Error("truncated");
      yield [Math.floor(key / 8), bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error("no protobuf");
  }
}

/** One model, loaded. It holds no stream. */
export class SpotterModel {
  static async load(bytes, ort) {
    const model = new SpotterModel();
    model.metadata = readMetadata(bytes);
    model.ort = ort;
    model.session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 });
    return model;
  }

  get labels() {
    return this.metadata.labels;
  }

  get keywords() {
    return this.labels.filter((label) => !label.startsWith("_"));
  }
}

/** One stream of audio through a model: feed it samples as they come, get detections. Await each call. */
export class StreamingSpotter {
  constructor(model) {
    const { labels, frame_length, sample_rate, block_size } = model.metadata;
    this.model = model;
    this.detector = new Detector(labels, frame_length, sample_rate, defaultDetector(model.metadata), block_size);
    this.reset();
  }

  /** Begin a new stream at time 0. */
  reset() {
    const { block_size, state_size } = this.model.metadata;
    this.block = new Float32Array(block_size);
    this.filled = 0; // samples in the block
    this.fed = 0; // samples of the stream
    this.state = new this.model.ort.Tensor("float32", new Float32Array(state_size), [1, state_size]);
    this.detector.reset();
  }

  /** The next samples (Float32Array at the model's rate, in [-1, 1]) -> the detections they bring. */
  async feed(samples) {
    const found = [];
    this.fed += samples.length;
    for (let at = 0; at < samples.length;) {
      const part = samples.subarray(at, at + this.block.length - this.filled);
      this.block.set(part, this.filled);
      this.filled += part.length;
      at += part.length;
      if (this.filled === this.block.length) found.push(...(await this.#step()));
    }
    return found;
  }

  /** End the stream: its last samples, zeros to the end of a block, and what was held back. Then `reset`. */
  async flush() {
    const missing = this.filled ? this.block.length - this.filled : 0;
    const found = [...(await this.feed(new Float32Array(missing))), ...this.detector.flush()];
    this.reset();
    return found;
  }

  async #step() {
    const waveform = new this.model.ort.Tensor("float32", this.block, [1, this.block.length]);
    const { logits, next_state } = await this.model.session.run({ waveform, state: this.state });
    this.filled = 0;
    this.state = next_state;
    const size = this.model.labels.length;
    const found = [];
    for (let at = 0; at < logits.data.length; at += size) {
      found.push(...this.detector.process(logits.data.subarray(at, at + size)));
    }
    return found;
  }
}
