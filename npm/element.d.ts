import type { Detection } from "./index.js";

/** `<kws-spotter model="URL">`: a button that listens. */
export class KwsSpotter extends HTMLElement {
  readonly listening: boolean;
  thresholds: Record<string, number>;
  load(source: string | URL | ArrayBuffer | ArrayBufferView): Promise<void>;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Events of the element. */
export interface KwsSpotterEvents {
  ready: CustomEvent<{ keywords: readonly string[] }>;
  listening: CustomEvent<{ name: string }>;
  detection: CustomEvent<Detection>;
  stopped: CustomEvent<Record<string, never>>;
  error: CustomEvent<{ message: string }>;
}

declare global {
  interface HTMLElementTagNameMap {
    "kws-spotter": KwsSpotter;
  }
}
