// Audio in: the microphone as it happens, or a whole file.

import { Resampler } from "./resampler.js";

/**
 * Open the microphone, without the browser's own noise suppression, and spot on the audio thread (spotter-worklet.js).
 *
 * `spotter` gives model and thresholds; `take` gets what each 10 ms bring, `lost` is called when the device is gone.
 */
export async function openMicrophone(spotter, take, lost) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("This page may not use the microphone here: open it over https, or on this machine's own address.");
  }
  const context = new AudioContext({ latencyHint: "interactive" });
  const [worklet, stream] = await start(context, spotter).catch(async (error) => {
    await context.close();
    throw error;
  });
  const stopped = new Promise((resolve) => {
    worklet.onprocessorerror = resolve; // nothing more will come
    worklet.port.onmessage = ({ data }) => {
      take(data);
      if (data.stopped) resolve();
    };
  });
  context.createMediaStreamSource(stream).connect(worklet).connect(context.destination); // it stays silent
  await context.resume();
  const [track] = stream.getAudioTracks();
  track.addEventListener("ended", lost);
  return {
    name: track.label || "microphone",
    rate: context.sampleRate,
    now: () => context.currentTime,
    setThreshold: (...each) => worklet.port.postMessage(each),
    close: async () => {
      worklet.port.postMessage("stop");
      await stopped;
      track.stop();
      await context.close();
    },
  };
}

/** The engine on the audio thread first, so that no word is lost while it starts; then the microphone. */
async function start(context, spotter) {
  await context.audioWorklet.addModule(new URL("./spotter-worklet.js", import.meta.url));
  const processorOptions = { model: spotter.model, thresholds: [...spotter.thresholds] };
  const worklet = new AudioWorkletNode(context, "spotter", { numberOfOutputs: 1, processorOptions });
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  try {
    return [worklet, await navigator.mediaDevices.getUserMedia({ audio: plain })];
  } catch (error) {
    const reasons = {
      NotAllowedError: "The microphone was not allowed: allow it in the browser's address bar, then start again.",
      NotFoundError: "There is no microphone: plug one in, or open an audio file.",
      NotReadableError: "The microphone cannot be opened: close what else uses it, then start again.",
    };
    throw new Error(reasons[error.name] ?? `The microphone cannot be opened (${error.message}).`);
  }
}

/** An audio file -> mono samples at `rate` Hz. Throws an Error with one sentence if it is no audio. */
export async function readFile(file, rate) {
  const bytes = await file.arrayBuffer();
  const own = ownRate(new DataView(bytes)) ?? 48000;
  let sound;
  try {
    sound = await new OfflineAudioContext(1, 1, own).decodeAudioData(bytes);
  } catch {
    throw new Error(`${file.name} cannot be read as audio; give a file that this browser plays.`);
  }
  const mono = new Float32Array(sound.length);
  for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
    sound.getChannelData(channel).forEach((value, i) => (mono[i] += value / sound.numberOfChannels));
  }
  const resampler = new Resampler(own, rate);
  const [most, rest] = [resampler.process(mono), resampler.flush()];
  const samples = new Float32Array(most.length + rest.length);
  samples.set(most);
  samples.set(rest, most.length);
  return samples;
}

/** The sample rate that a WAV or FLAC file states, so that the browser need not convert it; else null. */
function ownRate(view) {
  if (view.byteLength < 44) return null;
  const tag = (at) => String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));
  let rate = null;
  if (tag(0) === "fLaC") rate = view.getUint32(18) >>> 12;
  if (tag(0) === "RIFF" && tag(12) === "fmt ") rate = view.getUint32(24, true);
  return rate >= 3000 && rate <= 384000 ? rate : null;
}
