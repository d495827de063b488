// The parts of an ONNX file that the engine needs: nodes, constants, metadata. The twin of kws/runtime/onnx_reader.py.

// TensorProto.DataType -> how its numbers are kept; int64 as doubles, which are exact far beyond any size here.
const TYPES = {
  1: Float32Array,
  2: Uint8Array,
  3: Int8Array,
  4: Uint16Array,
  6: Int32Array,
  7: BigInt64Array,
  11: Float64Array,
};
const MOST_DIMS = 8;

/** {nodes, constants (Map: name -> tensor), metadata} of a file (Uint8Array). Throws an Error for one that is none. */
export function readOnnx(bytes) {
  const graph = { nodes: [], constants: new Map(), metadata: {} };
  try {
    for (const [field, value] of fields(bytes)) {
      if (field === 7) {
        for (const [inner, part] of fields(value)) {
          if (inner === 1) graph.nodes.push(node(part));
          else if (inner === 5) graph.constants.set(...tensor(part));
        }
      } else if (field === 14) {
        const entry = Object.fromEntries([...fields(value)].map(([part, content]) => [part, text(content)]));
        graph.metadata[entry[1] ?? ""] = parsed(entry[2] ?? "");
      }
    }
    if (!graph.nodes.length && !Object.keys(graph.metadata).length) throw new Error("empty");
  } catch {
    throw new Error("This is not an ONNX file.");
  }
  return graph;
}

function parsed(value) {
  try {
    return JSON.parse(value);
  } catch {
    return value; // not ours
  }
}

function node(bytes) {
  const found = { op: "", inputs: [], outputs: [], attributes: {} };
  for (const [field, value] of fields(bytes)) {
    if (field === 1) found.inputs.push(text(value));
    else if (field === 2) found.outputs.push(text(value));
    else if (field === 4) found.op = text(value);
    else if (field === 5) Object.assign(found.attributes, attribute(value));
  }
  return found;
}

function attribute(bytes) {
  let name = "";
  let result;
  const numbers = [];
  for (const [field, value] of fields(bytes)) {
    if (field === 1) name = text(value);
    else if (field === 2) [result] = new Float32Array(value.slice().buffer);
    else if (field === 3) result = value;
    else if (field === 4) result = text(value);
    else if (field === 5) [, result] = tensor(value);
    else if (field === 8) numbers.push(...integers(value));
  }
  return { [name]: result ?? numbers };
}

/** [name, {type, shape, data}]; data in the file's order. */
function tensor(bytes) {
  let [name, type, raw] = ["", 0, null];
  const [shape, listed] = [[], []];
  for (const [field, value] of fields(bytes)) {
    if (field === 1) shape.push(...integers(value));
    else if (field === 2) type = value;
    else if (field === 4) raw = value;
    else if (field === 5 || field === 7) listed.push(...integers(value));
    else if (field === 8) name = text(value);
    else if (field === 9) raw = value;
    else if (field === 14 && value !== 0) throw new Error("it lies in another file");
  }
  const kind = TYPES[type];
  if (!kind) throw new Error("unknown type");
  const numbers = raw?.length ? new kind(raw.slice().buffer) : listed;
  const data = type === 7 ? Float64Array.from(numbers, Number) : kind.from(numbers);
  const size = shape.reduce((a, b) => a * b, 1);
  if (shape.length > MOST_DIMS || shape.some((each) => each < 0) || data.length !== size) throw new Error("wrong size");
  return [name, { type, shape, data }];
}

const text = (bytes) => new TextDecoder().decode(bytes);

function integers(value) {
  if (typeof value === "number") return [value];
  const found = [];
  for (const at = { byte: 0 }; at.byte < value.length;) found.push(varint(value, at));
  return found;
}

/** The fields of a protobuf message as [number, value]: a number, or bytes. */
function* fields(bytes) {
  if (!(bytes instanceof Uint8Array)) throw new Error("a number stands where bytes belong");
  for (const at = { byte: 0 }; at.byte < bytes.length;) {
    const key = varint(bytes, at);
    const [field, kind] = [Math.floor(key / 8), key % 8];
    if (kind === 0) yield [field, varint(bytes, at)];
    else if (kind === 1 || kind === 2 || kind === 5) {
      const length = kind === 2 ? varint(bytes, at) : kind === 1 ? 8 : 4;
      if (!(length >= 0 && at.byte + length <= bytes.length)) throw new Error("truncated");
      yield [field, bytes.subarray(at.byte, at.byte + length)];
      at.byte += length;
    } else throw new Error("no protobuf");
  }
}

/** A number of up to 64 bits, negative in two's complement. */
function varint(bytes, at) {
  let value = 0n;
  for (let shift = 0n; shift < 70n; shift += 7n) {
    if (at.byte >= bytes.length) throw new Error("truncated");
    const byte = bytes[at.byte++];
    if (shift === 0n && byte < 128) return byte; // the common case, without a BigInt
    value |= BigInt(byte & 127) << shift;
    if (byte < 128) return Number(BigInt.asIntN(64, value));
  }
  throw new Error("too long");
}
