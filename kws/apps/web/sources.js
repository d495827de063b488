// Audio in: the microphone as it happens, or a whole file.

import { Resampler } from "./resampler.js";

/** Open the microphone, without the browser's own noise suppression; `take({samples, gap, time})` gets 10 ms at a time. */
export async function openMicrophone(take, lost) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("This page may not use the microphone here: open it over https, or on this machine's own address.");
  }
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
  } catch (error) {
    const reasons = {
      NotAllowedError: "The microphone was not allowed: allow it in the browser's address bar, then start again.",
      NotFoundError: "There is no microphone: plug one in, or open an audio file.",
      NotReadableError: "The microphone cannot be opened: close what else uses it, then start again.",
    };
    throw new Error(reasons[error.name] ?? `The microphone cannot be opened (${error.message}).`);
  }
  const context = new AudioContext({ latencyHint: "interactive" });
  await context.audioWorklet.addModule(new URL("./capture-worklet.js", import.meta.url));
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 1 });
  capture.port.onmessage = (event) => take(event.data);
  context.createMediaStreamSource(stream).connect(capture).connect(context.destination); // it stays silent
  await context.resume();
  const [track] = stream.getAudioTracks();
  track.addEventListener("ended", lost);
  return {
    name: track.label || "microphone",
    rate: context.sampleRate,
    now: () => context.currentTime,
    close: async () => {
      track.stop();
      await context.close();
    },
  };
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
