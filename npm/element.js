// <kws-spotter model="gsc12.onnx">: a button that listens. Events: ready, listening, detection, stopped, error.

import { loadModel, Spotter } from "./spotter.js";
import { openMicrophone } from "./sources.js";

export class KwsSpotter extends HTMLElement {
  static observedAttributes = ["model"];
  #microphone = null;
  #ready = null; // the Spotter of the attribute `model`, a promise
  #button;

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.innerHTML = `<button part="button" type="button" disabled>Listen</button> <output part="word"></output>`;
    this.#button = root.querySelector("button");
    this.#button.addEventListener("click", () => (this.listening ? this.stop() : this.start()).catch(() => {}));
  }

  /** Whether the microphone is open. */
  get listening() {
    return this.#microphone !== null;
  }

  /** Thresholds to replace the model's, by keyword; they hold from the next start on. */
  thresholds = {};

  attributeChangedCallback(_, before, now) {
    if (now !== before) this.load(now).catch(() => {});
  }

  /** Load a model: what `loadModel` takes. The attribute `model` does it, relative to the page. */
  async load(source) {
    this.#button.disabled = true;
    const loading = loadModel(typeof source === "string" ? new URL(source, document.baseURI) : source);
    const ready = loading.then((model) => new Spotter(model));
    this.#ready = ready;
    try {
      const spotter = await ready;
      if (this.#ready !== ready) return; // another model was asked for since
      this.#button.disabled = false;
      this.#tell("ready", { keywords: spotter.model.keywords });
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  /** Open the microphone; browsers ask the user, and want a click first. */
  async start() {
    if (this.listening) return;
    try {
      if (!this.#ready) throw new Error("<kws-spotter> has no model: give it the attribute model.");
      const spotter = await this.#ready;
      for (const [keyword, score] of Object.entries(this.thresholds)) spotter.setThreshold(keyword, score);
      const lost = () => this.stop().then(() => this.#fail(new Error("The microphone is gone: plug it in again.")));
      this.#microphone = await openMicrophone(spotter, ({ found }) => found.forEach((each) => this.#hear(each)), lost);
      this.#button.textContent = "Stop";
      this.#tell("listening", { name: this.#microphone.name });
    } catch (error) {
      this.#fail(error);
      throw error;
    }
  }

  /** Close the microphone. */
  async stop() {
    const microphone = this.#microphone;
    this.#microphone = null;
    if (!microphone) return;
    this.#button.textContent = "Listen";
    await microphone.close();
    this.#tell("stopped", {});
  }

  disconnectedCallback() {
    this.stop();
  }

  #hear(detection) {
    this.shadowRoot.querySelector("output").textContent = detection.keyword;
    this.#tell("detection", detection);
  }

  #fail(error) {
    this.shadowRoot.querySelector("output").textContent = error.message;
    this.#tell("error", { message: error.message });
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: name !== "error", composed: true }));
  }
}

if (!customElements.get("kws-spotter")) customElements.define("kws-spotter", KwsSpotter);
