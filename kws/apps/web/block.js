// Weights -> the flat, versioned, checksummed block that the engine takes: the twin of kws/c/block.py, byte for byte.

const [MAGIC, VERSION, HEADER_WORDS, LANES] = [0x4253574b, 2, 32, 8];
const CELLS = { rnn: 1, gru: 3, lstm: 4 };
const TINY = 2 ** -126;

/** The block of weights (weights.js), layers in the file's precision: Uint32Array. */
export function makeBlock(weights) {
  const { metadata, bins } = weights;
  const { frontend, model } = metadata;
  const isInt8 = metadata.precision === "int8";
  const header = new Uint32Array(HEADER_WORDS);
  const samples = (ms) => Math.round((ms * frontend.sample_rate) / 1000);
  header.set([MAGIC, VERSION]);
  header.set([Number(isInt8), frontend.sample_rate, samples(frontend.win_ms), metadata.hop_length], 5);
  header.set([frontend.n_fft, bins, weights.mel ? frontend.n_mels : 0, weights.dct ? frontend.n_mfcc : 0], 9);
  header.set(words([frontend.log_offset]), 13);
  const { convs, cells } = weights;
  const isRecurrent = cells.length > 0;
  header.set([convs.length, isRecurrent ? model.projection_size : 0, CELLS[isRecurrent ? model.cell : "rnn"]], 14);
  header.set([isRecurrent ? model.hidden_size : 1, cells.length, metadata.labels.length], 17);
  header.set([metadata.block_size / metadata.frame_length], 20);
  const shapes = convs.flatMap(({ sizes, slope, least }) => [Uint32Array.from(sizes), words([slope, least])]);
  const parts = [header, ...shapes, words(weights.window), ...twiddles(frontend.n_fft, bins)];
  if (weights.mel) parts.push(...mel(weights.mel, bins));
  if (weights.dct) parts.push(words(weights.dct));
  parts.push(words(weights.mean), words(Float64Array.from(weights.std, (x) => 1 / x)));
  const layers = [...convs, weights.projection, ...cells.flat(), weights.head].filter(Boolean);
  // The first convolution has few weights, and their rounding would cost most.
  layers.forEach((each, i) => parts.push(...layer(each, isInt8 && !(i === 0 && convs.length))));
  const block = new Uint32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (block.set(part, at), at + part.length), 0);
  block[2] = 4 * block.length;
  let [sum, sumOfSums] = [0, 0]; // Fletcher's checksum, of words, modulo 2^32
  for (let i = 5; i < block.length; i += 1) {
    sum = (sum + block[i]) >>> 0;
    sumOfSums = (sumOfSums + sum) >>> 0;
  }
  block.set([sum, sumOfSums], 3);
  return block;
}

const words = (numbers) => new Uint32Array(Float32Array.from(numbers).buffer);

/** For each pass of radix 4 but the last the cosine and the sine of one, two and three turns; then of each bin. */
function twiddles(nFft, bins) {
  const parts = [];
  const turns = (n, step) => {
    for (const f of [Math.cos, Math.sin]) parts.push(words(Float64Array.from({ length: n }, (_, i) => f(i * step))));
  };
  for (let points = nFft / 2; points > 4; points = Math.floor(points / 4)) {
    for (const turn of [1, 2, 3]) turns(points / 4, (turn * 2 * Math.PI) / points);
  }
  turns(bins, (2 * Math.PI) / nFft);
  return parts;
}

/** For each band its first bin and how many follow (one word), then the numbers from there. */
function mel({ weights, outputs, length }, bins) {
  const [ranges, numbers] = [new Uint32Array(outputs), []];
  for (let band = 0; band < outputs; band += 1) {
    const filter = weights.subarray(band * length, band * length + bins);
    const first = Math.max(0, filter.findIndex((x) => x !== 0));
    const end = filter.findLastIndex((x) => x !== 0) + 1;
    ranges[band] = first | ((end - Math.min(first, end)) << 16);
    numbers.push(...filter.subarray(first, end));
  }
  return [ranges, words(numbers)];
}

/** Bias, int8: scales, then weights, all in blocks of eight outputs; zeros fill the last. */
function layer({ weights, bias, outputs, rows, length }, isInt8) {
  const blocks = Math.ceil(outputs / LANES);
  const filled = new Float32Array(blocks * LANES);
  filled.set(bias);
  const at = (o, r, k) => (o < outputs && k < length ? weights[(o * rows + r) * length + k] : 0);
  let next = 0;
  if (!isInt8) {
    const lanes = new Float32Array(blocks * rows * length * LANES);
    for (let first = 0; first < blocks * LANES; first += LANES)
      for (let r = 0; r < rows; r += 1)
        for (let k = 0; k < length; k += 1)
          for (let lane = 0; lane < LANES; lane += 1) lanes[next++] = at(first + lane, r, k);
    return [words(filled), words(lanes)];
  }
  const scale = new Float32Array(blocks * LANES);
  for (let o = 0; o < scale.length; o += 1) {
    let most = 0;
    for (let r = 0; r < rows; r += 1) for (let k = 0; k < length; k += 1) most = Math.max(most, Math.abs(at(o, r, k)));
    scale[o] = Math.max(Math.fround(most / 127), TINY);
  }
  // [blocks][rows][pairs of inputs][4 pairs of outputs][2 inputs][2 outputs], as kws.c takes them apart
  const bytes = new Int8Array(blocks * rows * Math.ceil(length / 2) * 2 * LANES);
  for (let first = 0; first < blocks * LANES; first += LANES)
    for (let r = 0; r < rows; r += 1)
      for (let k = 0; k < length; k += 2)
        for (let lane = 0; lane < LANES; lane += 2)
          for (let input = k; input < k + 2; input += 1)
            for (let o = first + lane; o < first + lane + 2; o += 1)
              bytes[next++] = halfToEven(Math.fround(at(o, r, input) / scale[o]));
  return [words(filled), words(scale), new Uint32Array(bytes.buffer)];
}

function halfToEven(x) {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 ? floor + 1 : floor;
}
