// The page: joins the microphone or a file, the model and what is on the screen.

import { SCALES } from "./detector.js";
import { openMicrophone, readFile } from "./sources.js";
import { Spectrogram } from "./spectrogram.js";
import { loadModel, Spotter } from "./spotter.js";

const LIT_MS = 1000; // a keyword shines for so long
const MOST_DETECTIONS = 200;
const byId = (id) => document.getElementById(id);
const picture = new Spectrogram(byId("spectrogram"), byId("marks"));
const rows = new Map(); // keyword -> its elements
let spotter, microphone;
let scores = []; // of each label, the newest
const drawn = { picture: 0, numbers: 0 }; // the clock when it was
const figures = { level: -Infinity, load: 0, delay: 0, lost: 0 };

const say = (text) => (byId("status").textContent = text);
function complain(error) {
  byId("error").textContent = error?.message ?? "";
  byId("error").hidden = !error;
}

/** Run one of the page's actions when those before it are done; what goes wrong is said in one sentence. */
let actions = Promise.resolve();
function attempt(action) {
  actions = actions.then(async () => {
    complain(null);
    try {
      await action();
    } catch (error) {
      complain(error);
      say("Stopped.");
    }
  });
  return actions;
}

async function useModel(name, bytes) {
  await stop();
  byId("listen").disabled = true;
  say(`Loading ${name}…`);
  const model = await loadModel(bytes, spotter?.model.module).finally(() => (byId("listen").disabled = !spotter));
  spotter = new Spotter(model);
  const parts = model.keywords.map(keywordRow);
  byId("keywords").replaceChildren(...parts);
  begin();
  byId("listen").disabled = false;
  const block = (1000 * model.metadata.block_size) / model.metadata.sample_rate;
  say(
    `${name} is ready: ${model.keywords.length} keywords, ${Math.round(bytes.length / 1000)} kB, a step every ${block} ms.`,
  );
}

function keywordRow(keyword) {
  const part = (tag, className) => Object.assign(document.createElement(tag), { className });
  const [row, name, track, fill, value] = [
    part("div", "keyword"),
    part("span", "name"),
    part("div", "track"),
    part("div", "fill"),
    part("span", "value"),
  ];
  const [min, max] = SCALES[spotter.config.score];
  const step = (max - min) / 100;
  const slider = Object.assign(part("input"), { type: "range", min: min || step, max, step });
  slider.value = spotter.thresholds.get(keyword);
  slider.setAttribute("aria-label", `Threshold of ${keyword}`);
  const told = () => (slider.title = `Threshold ${slider.value}`);
  slider.addEventListener("input", () => {
    spotter.setThreshold(keyword, Number(slider.value));
    microphone?.setThreshold(keyword, Number(slider.value));
    told();
  });
  told();
  name.textContent = keyword;
  track.append(fill, slider);
  row.append(name, track, value);
  rows.set(keyword, { row, fill, value, index: spotter.model.labels.indexOf(keyword), litUntil: 0 });
  return row;
}

/** A new stream at time 0, nothing on the screen. */
function begin() {
  const { keywords, metadata } = spotter.model;
  for (const keyword of rows.keys()) if (!keywords.includes(keyword)) rows.delete(keyword);
  spotter.reset();
  scores = spotter.scores;
  picture.reset(spotter.bands, metadata.hop_length / metadata.sample_rate);
  byId("detections").replaceChildren();
  byId("none").hidden = false;
  Object.assign(figures, { level: -Infinity, load: 0, delay: 0, lost: 0 });
}

function show(detection) {
  const row = document.createElement("tr");
  Object.assign(row.dataset, detection, { at: performance.timeOrigin + performance.now() });
  const cells = [
    detection.keyword,
    detection.score.toFixed(3),
    `${detection.start.toFixed(2)} s`,
    `${detection.end.toFixed(2)} s`,
  ];
  row.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  byId("detections").prepend(row);
  if (byId("detections").rows.length > MOST_DETECTIONS) byId("detections").lastElementChild.remove();
  byId("none").hidden = true;
  byId("latest").textContent = detection.keyword;
  rows.get(detection.keyword).litUntil = performance.now() + LIT_MS;
  picture.mark(detection.keyword, detection.end);
}

/** What the next samples brought, onto the screen. power: their mean square; busy: seconds of computing for `seconds`. */
function heard({ found, spectra, scores: newest = scores, power = 0, seconds = 0, busy = 0 }) {
  figures.level = Math.max(10 * Math.log10(power + 1e-12), figures.level - 32 * seconds);
  figures.load += (busy - figures.load * seconds) / 2;
  scores = newest;
  picture.push(spectra);
  found.forEach(show);
}

/** The next samples of a file, at the model's rate -> how many detections they bring. */
function feed(samples) {
  const power = samples.reduce((sum, x) => sum + x * x, 0) / (samples.length || 1);
  const begun = performance.now();
  const found = spotter.feed(samples);
  const [busy, seconds] = [(performance.now() - begun) / 1000, samples.length / spotter.model.metadata.sample_rate];
  heard({ found, spectra: spotter.spectra, scores: spotter.scores, power, seconds, busy });
  return found.length;
}

async function listen() {
  begin();
  let base;
  const take = (news) => {
    heard(news);
    if (news.stopped) return;
    base ??= performance.timeOrigin + performance.now() - 1000 * news.seconds;
    byId("detections").dataset.begun = base; // the clock at the stream's first sample
    if (news.gap) figures.lost += 1;
    if (microphone) figures.delay += 0.05 * (1000 * (microphone.now() - news.time) - figures.delay);
  };
  const lost = () =>
    attempt(async () => {
      await stop();
      throw new Error("The microphone is gone: plug it in again, then start again.");
    });
  microphone = await openMicrophone(spotter, take, lost);
  byId("listen").textContent = "Stop";
  say(`Listening to ${microphone.name}, ${microphone.rate} Hz.`);
}

async function stop() {
  if (!microphone) return;
  const closing = microphone;
  microphone = undefined;
  await closing.close();
  byId("listen").textContent = "Start listening";
  say("Stopped.");
}

async function spotFile(file) {
  await stop();
  begin();
  const { sample_rate } = spotter.model.metadata;
  say(`Spotting ${file.name}…`);
  const samples = await readFile(file, sample_rate);
  let count = 0;
  for (let at = 0; at < samples.length; at += sample_rate) {
    count += feed(samples.subarray(at, at + sample_rate));
    await new Promise((resolve) => setTimeout(resolve)); // let the page breathe
  }
  const rest = spotter.flush();
  rest.forEach(show);
  const seconds = (samples.length / sample_rate).toFixed(1);
  say(`${file.name}: ${count + rest.length} detections in ${seconds} s.`);
}

async function open(file) {
  if (!file) return;
  if (file.name.endsWith(".onnx")) await useModel(file.name, new Uint8Array(await file.arrayBuffer()));
  else if (spotter) await spotFile(file);
}

async function fetchModel(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} is missing on this host.`);
  await useModel(decodeURIComponent(url.split("/").pop()), new Uint8Array(await answer.arrayBuffer()));
}

/** Put the newest state on the screen, thirty times a second, the numbers ten times. */
function draw() {
  requestAnimationFrame(draw);
  if (!spotter) return;
  const now = performance.now();
  const [low, high] = SCALES[spotter.config.score];
  if (now - drawn.picture > 1000 / 33) {
    drawn.picture = now;
    picture.draw();
    for (const { row, fill, index, litUntil } of rows.values()) {
      const share = (scores[index] - low) / (high - low);
      fill.style.transform = `scaleX(${Math.min(1, Math.max(0, share)).toFixed(3)})`;
      row.classList.toggle("lit", now < litUntil);
    }
  }
  if (now - drawn.numbers > 100) {
    drawn.numbers = now;
    for (const { value, index } of rows.values()) write(value, scores[index].toFixed(2));
    write(byId("level"), figures.level > -Infinity ? `${figures.level.toFixed(0)} dBFS` : "–");
    write(byId("load"), figures.load ? `${(100 * figures.load).toFixed(1)} %` : "–");
    write(byId("delay"), microphone ? `${Math.max(0, figures.delay).toFixed(0)} ms` : "–");
    write(byId("lost"), String(figures.lost));
  }
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

byId("listen").addEventListener("click", () => attempt(() => (microphone ? stop() : listen())));
byId("model").addEventListener("change", (event) => attempt(() => fetchModel(event.target.value)));
for (const kind of ["audio", "model"]) {
  const input = byId(`${kind}-file`);
  byId(`open-${kind}`).addEventListener("click", () => input.click());
  input.addEventListener("change", () => attempt(() => open(input.files[0])).then(() => (input.value = "")));
}
let dragged = 0;
addEventListener("dragenter", () => (byId("drop").hidden = !++dragged));
addEventListener("dragleave", () => (byId("drop").hidden = !--dragged));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").hidden = !(dragged = 0);
  attempt(() => open(event.dataTransfer.files[0]));
});

attempt(async () => {
  const urls = await (await fetch("models.json")).json();
  byId("model").append(...urls.map((url) => new Option(decodeURIComponent(url.split("/").pop()), url)));
  await fetchModel(urls[0]);
});
requestAnimationFrame(draw);
