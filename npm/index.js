// kws-web: keyword spotting in pages and in Node, on the C engine as WebAssembly.

export { loadModel, Spotter } from "./spotter.js";
export { openMicrophone, readFile } from "./sources.js";
export { Resampler } from "./resampler.js";
