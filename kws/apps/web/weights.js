// A model's weights, named and laid out as the engine multiplies them, read back from its graph: kws/c/weights.py.
// A layer is {weights: Float32Array [outputs][rows][length], bias: Float32Array [outputs], outputs, rows, length}; a
// convolution has a shape besides, what `kws_conv_shape` of kws.h says.
// Shapes are not checked here: the engine refuses a block whose sizes are not what its header says.

const CELLS = { LSTM: "lstm", DynamicQuantizeLSTM: "lstm", GRU: "gru" }; // tanh cells are exported as products
// Gates in the file -> in the engine: LSTM i, o, f, c -> i, f, c, o; GRU z, r, n -> r, z, n.
const GATES = { lstm: [0, 2, 3, 1], gru: [1, 0, 2], rnn: [0] };
const ARCHITECTURES = ["recurrent", "speech_embedding"];
const LEAST = -(2 - 2 ** -23) * 2 ** 127; // of all floats
const MOST_NUMBERS = 2 ** 24; // in one constant
const PRODUCTS = { spectrogram: 1, log_mel: 2, mfcc: 3 }; // of the front end
const FLOAT = 1;

const isFloat = (...tensors) => tensors.every(({ type }) => type === FLOAT);
const size = (shape) => shape.reduce((a, b) => a * b, 1);

/** What nodes give that depend on constants alone, as tensors. */
const OPERATIONS = {
  Range: (_, [start, stop, step]) => {
    const n = Math.ceil((stop.data[0] - start.data[0]) / step.data[0]);
    return { type: start.type, shape: [n], data: array(n, (i) => start.data[0] + i * step.data[0]) };
  },
  Reshape: (_, [x, { data }]) => {
    const known = size(data.filter((n) => n !== -1));
    return { ...x, shape: Array.from(data, (n) => (n === -1 ? x.data.length / known : n)) };
  },
  Mul: (_, [a, b]) => ({ type: a.type, ...broadcast(a, b, isFloat(a, b) ? (x, y) => Math.fround(x * y) : (x, y) => x * y) }),
  Mod: (_, [a, b]) => ({ type: a.type, ...broadcast(a, b, (x, y) => x % y) }),
  Cast: ({ to }, [x]) => ({ ...x, type: to }),
  Cos: (_, [x]) => ({ ...x, data: new Float32Array(x.data).map((angle) => Math.cos(angle)) }),
  Sin: (_, [x]) => ({ ...x, data: new Float32Array(x.data).map((angle) => Math.sin(angle)) }),
  Concat: ({ axis }, parts) => {
    const shape = [...parts[0].shape];
    shape[axis] = parts.reduce((sum, part) => sum + part.shape[axis], 0);
    const [outer, widths] = [size(shape.slice(0, axis)), parts.map((part) => size(part.shape.slice(axis)))];
    const data = new Float64Array(size(shape));
    for (let row = 0, at = 0; row < outer; row += 1) {
      parts.forEach((part, i) => {
        data.set(part.data.subarray(row * widths[i], (row + 1) * widths[i]), at);
        at += widths[i];
      });
    }
    return { type: parts[0].type, shape, data };
  },
  ConstantOfShape: ({ value }, [shape]) => ({
    type: value?.type ?? FLOAT,
    shape: [...shape.data],
    data: array(size([...shape.data]), () => value?.data[0] ?? 0),
  }),
  ScatterND: (_, [x, at, values]) => {
    const [data, depth] = [x.data.slice(), at.shape.at(-1)];
    values.data.forEach((value, i) => {
      const index = at.data.subarray(i * depth, (i + 1) * depth);
      data[index.reduce((sum, each, axis) => sum * x.shape[axis] + each, 0)] = value;
    });
    return { ...x, data };
  },
};

function array(n, value) {
  if (!(n >= 0 && n <= MOST_NUMBERS)) throw new Error("a constant is too large");
  const numbers = new Float64Array(n);
  for (let i = 0; i < n; i += 1) numbers[i] = value(i);
  return numbers;
}

/** Of two tensors of one rank, or one of a single number. */
function broadcast(a, b, operation) {
  if (a.data.length === 1 && b.data.length > 1) return broadcast(b, a, (x, y) => operation(y, x));
  if (b.data.length === 1) return { shape: a.shape, data: a.data.map((x) => operation(x, b.data[0])) };
  if (a.shape.length !== b.shape.length) throw new Error("two constants do not fit");
  const shape = a.shape.map((n, axis) => Math.max(n, b.shape[axis]));
  const index = (tensor, i) => {
    let place = 0;
    for (let axis = shape.length - 1, scale = 1; axis >= 0; axis -= 1) {
      const n = tensor.shape[axis];
      if (n > 1) place += (i % shape[axis]) * scale;
      scale *= n;
      i = Math.floor(i / shape[axis]);
    }
    return place;
  };
  return { shape, data: array(size(shape), (i) => operation(a.data[index(a, i)], b.data[index(b, i)])) };
}

function foldConstants({ nodes, constants }) {
  const known = new Map(constants);
  for (const { op, inputs, outputs, attributes } of nodes) {
    if (op in OPERATIONS && inputs.length && inputs.every((name) => known.has(name))) {
      known.set(outputs[0], OPERATIONS[op](attributes, inputs.map((name) => known.get(name))));
    }
  }
  return known;
}

/** The weights of a graph (onnx.js) whose metadata are sound. Throws an Error for one that the engine does not have. */
export function readWeights(graph) {
  const { variant = "waveform", model } = graph.metadata;
  try {
    if (variant !== "waveform") throw new Error("it takes features, not audio");
    if (!ARCHITECTURES.includes(model.architecture ?? "recurrent")) throw new Error(`it is a ${model.architecture}`);
    return new Reader(graph).weights();
  } catch (error) {
    throw new Error(`The engine cannot run this model: ${error.message}.`);
  }
}

class Reader {
  constructor(graph) {
    this.graph = graph;
    this.constants = foldConstants(graph);
  }

  weights() {
    const { metadata, nodes } = this.graph;
    const { frontend, model } = metadata;
    const byWeights = new Map();
    for (const node of nodes) {
      const layer = this.product(node);
      if (layer) byWeights.set(node.inputs[1], layer);
    }
    const products = [...byWeights.values()];
    const isRecurrent = (model.architecture ?? "recurrent") === "recurrent";
    const ofCells = model.cell === "rnn" ? 2 * model.num_layers : 0;
    const wanted = PRODUCTS[frontend.kind] + (isRecurrent ? Boolean(model.projection_size) + 1 + ofCells : 0);
    if (products.length !== wanted) throw new Error(`its graph has ${products.length} products, not ${wanted}`);
    const dft = products.shift();
    const bins = dft.outputs / 2;
    const window = Float32Array.from({ length: dft.length }, (_, i) => dft.weights[i]); // the cosine of bin 0 is 1
    const mel = frontend.kind === "spectrogram" ? null : products.shift(); // [n_mels][2 * bins], twice the same
    const dct = frontend.kind === "mfcc" ? products.shift().weights : null;
    const head = products.pop() ?? null;
    const convs = nodes.filter(({ op }) => op === "Conv").map((node) => this.convolution(node));
    let projection = isRecurrent && model.projection_size ? products.shift() : null;
    const cells = nodes.filter(({ op }) => op in CELLS).map((node) => this.cell(node));
    for (let i = 0; i + 1 < products.length; i += 2) cells.push(summed(products[i], products[i + 1]));
    if (convs.length && cells.length) {
      const channels = convs.at(-1).outputs;
      if (projection) projection = channelsLast(projection, channels);
      else cells[0][0] = channelsLast(cells[0][0], channels);
    }
    const ofFeatures = (op) => this.tensor(nodes.find((node) => node.op === op).inputs[1]).data;
    const [mean, std] = [ofFeatures("Sub"), ofFeatures("Div")];
    return { metadata, bins, window, mel, dct, mean, std, convs, projection, cells, head };
  }

  tensor(name) {
    if (!this.constants.has(name)) throw new Error("a constant is missing");
    return this.constants.get(name);
  }

  /** The layer of a node that multiplies with a constant matrix [.., inputs, outputs], and the bias added next. */
  product(node) {
    if (!this.constants.has(node.inputs[1])) return null;
    const { shape, data } = this.tensor(node.inputs[1]);
    const [length, outputs] = shape.slice(-2);
    let [after, value] = [node, (i) => data[i]];
    if (node.op === "MatMulInteger") {
      // DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul with (scale of the step * scale of the weights)
      const zero = this.tensor(node.inputs[3]).data;
      const cast = this.user(node, "Cast");
      after = this.user(cast, "Mul");
      const other = after.inputs.find((name) => !cast.outputs.includes(name));
      const scale = this.constantInput(this.graph.nodes.find(({ outputs: made }) => made.includes(other)));
      value = (i) => (data[i] - ofOutput(zero, i)) * ofOutput(scale, i);
    } else if (node.op !== "MatMul") return null;
    const ofOutput = (values, i) => values[values.length > 1 ? i % outputs : 0];
    const weights = new Float32Array(data.length);
    for (let k = 0; k < length; k += 1) {
      for (let o = 0; o < outputs; o += 1) weights[o * length + k] = value(k * outputs + o);
    }
    const added = this.graph.nodes.find(({ op, inputs }) => op === "Add" && inputs.includes(after.outputs[0]));
    const bias = Float32Array.from(added ? this.constantInput(added) : []);
    return { weights, bias: bias.length === outputs ? bias : new Float32Array(outputs), outputs, rows: 1, length };
  }

  user(node, op) {
    return this.graph.nodes.find((each) => each.op === op && each.inputs.includes(node.outputs[0]));
  }

  constantInput(node) {
    return this.tensor(node.inputs.find((name) => this.constants.has(name))).data;
  }

  /**
   * [out, in, time, bands] -> rows of time, each [bands, in], as the engine's inputs lie; and what follows it. A
   * convolution over time alone, [out, in, time], takes what a constant was multiplied with.
   */
  convolution(node) {
    const { shape, data } = this.tensor(node.inputs[1]);
    const [outputs, channels, rows, bands = 1] = shape;
    const scale = shape.length === 3 ? this.factor(node.inputs[0]) : 1;
    const weights = new Float32Array(data.length);
    let at = 0;
    for (let o = 0; o < outputs; o += 1)
      for (let row = 0; row < rows; row += 1)
        for (let band = 0; band < bands; band += 1)
          for (let c = 0; c < channels; c += 1)
            weights[at++] = data[((o * channels + c) * rows + row) * bands + band] * scale;
    const bias = Float32Array.from(node.inputs[2] ? this.tensor(node.inputs[2]).data : new Float32Array(outputs));
    const { pads, strides } = node.attributes;
    const padding = shape.length === 3 ? 0 : pads[1];
    let [slope, least, pool] = [1, LEAST, [1, 1]];
    for (let after = this.activation(node); after; after = this.activation(after)) {
      if (after.op === "Relu") [slope, least] = [0, 0];
      else if (after.op === "LeakyRelu") slope = after.attributes.alpha;
      else if (after.op === "Clip") [least] = this.tensor(after.inputs[1]).data;
      else pool = after.attributes.kernel_shape;
    }
    const sizes = [outputs, rows, bands, padding, strides[1] ?? 1, strides[0], ...pool];
    return { weights, bias, outputs, rows, length: bands * channels, sizes, slope, least };
  }

  /** What a convolution's result goes through next before it is another layer's input. */
  activation({ outputs }) {
    const kinds = ["Relu", "LeakyRelu", "Clip", "MaxPool"];
    return this.graph.nodes.find(({ op, inputs }) => kinds.includes(op) && inputs.includes(outputs[0]));
  }

  /** What the input of a convolution over time was multiplied with. */
  factor(name) {
    const maker = this.graph.nodes.find(({ outputs }) => outputs.includes(name));
    if (maker && ["Transpose", "Concat"].includes(maker.op)) return this.factor(maker.inputs.at(-1));
    if (maker?.op !== "Mul") throw new Error("what its last convolution hears is not scaled by a number");
    return this.tensor(maker.inputs[1]).data[0];
  }

  /** A cell's input and its recurrent product. */
  cell(node) {
    const { model } = this.graph.metadata;
    const kind = CELLS[node.op];
    if (kind !== model.cell || (kind === "gru" && node.attributes.linear_before_reset !== 1)) {
      throw new Error(`its cell is ${node.op}, its metadata say ${model.cell}`);
    }
    const [order, n] = [GATES[kind], model.hidden_size];
    const rows = order.length * n;
    const quantised = node.op === "DynamicQuantizeLSTM"; // stored transposed, with a scale for each output
    const gates = (name, scale) => {
      const { data } = this.tensor(name);
      const length = data.length / rows;
      const scales = quantised ? this.tensor(scale).data : null;
      const value = (row, k) => (quantised ? data[k * rows + row] * scales[row] : data[row * length + k]);
      const weights = new Float32Array(data.length);
      order.forEach((gate, i) => {
        for (let j = 0; j < n; j += 1)
          for (let k = 0; k < length; k += 1) weights[((i * n + j) * length) + k] = value(gate * n + j, k);
      });
      return { weights, outputs: rows, rows: 1, length };
    };
    const biases = this.tensor(node.inputs[3]).data;
    const bias = (first) => Float32Array.from({ length: rows }, (_, i) => biases[first + order[Math.floor(i / n)] * n + (i % n)]);
    const pair = [
      { ...gates(node.inputs[1], node.inputs[8]), bias: bias(0) },
      { ...gates(node.inputs[2], node.inputs[10]), bias: bias(rows) },
    ];
    return kind === "gru" ? pair : summed(...pair);
  }
}

/** A cell's products whose results are added: both biases in the first. */
function summed(x, h) {
  return [{ ...x, bias: x.bias.map((value, i) => value + h.bias[i]) }, { ...h, bias: h.bias.map(() => 0) }];
}

/** Inputs [channels, bands] -> [bands, channels]. */
function channelsLast(layer, channels) {
  const bands = layer.length / channels;
  const weights = new Float32Array(layer.weights.length);
  for (let i = 0; i < weights.length; i += 1) {
    const [output, k] = [Math.floor(i / layer.length), i % layer.length];
    weights[i] = layer.weights[output * layer.length + (k % channels) * bands + Math.floor(k / channels)];
  }
  return { ...layer, weights };
}
