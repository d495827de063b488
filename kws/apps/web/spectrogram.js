// The scrolling picture of the features, with the keywords that were heard where they were heard.

const FRAMES = 500; // shown at once
const FLOOR = -12; // natural logarithm of power drawn darkest
const CEILING = 6;
const COLOURS = [
  [13, 8, 45],
  [62, 27, 109],
  [125, 41, 112],
  [189, 60, 88],
  [236, 105, 55],
  [252, 175, 62],
  [252, 248, 190],
];

export class Spectrogram {
  constructor(canvas, marks) {
    this.canvas = canvas;
    this.marks = marks; // an element laid over the canvas
    this.shown = [];
  }

  /** Begin anew, with frames of `size` bands, `secondsPerFrame` apart. */
  reset(size, secondsPerFrame) {
    this.canvas.width = FRAMES;
    this.canvas.height = size;
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.context.fillStyle = `rgb(${COLOURS[0]})`;
    this.context.fillRect(0, 0, FRAMES, size);
    this.secondsPerFrame = secondsPerFrame;
    this.drawn = 0; // frames
    this.waiting = [];
    this.shown = [];
    this.marks.replaceChildren();
  }

  /** Frames to be drawn with the next `draw`. */
  push(frames) {
    this.waiting.push(...frames);
  }

  /** Name a keyword at a time of the stream. */
  mark(keyword, seconds) {
    const label = document.createElement("span");
    label.textContent = keyword;
    this.marks.append(label);
    this.shown.push({ label, frame: seconds / this.secondsPerFrame });
  }

  /** Put what waits on the screen. */
  draw() {
    const frames = this.waiting.slice(-FRAMES);
    this.drawn += this.waiting.length;
    this.waiting = [];
    if (frames.length) {
      const { context, canvas } = this;
      context.drawImage(canvas, -frames.length, 0);
      const image = context.createImageData(frames.length, canvas.height);
      frames.forEach((frame, x) => {
        frame.forEach((value, band) => {
          const at = 4 * ((canvas.height - 1 - band) * frames.length + x);
          image.data.set(colour((value - FLOOR) / (CEILING - FLOOR)), at);
        });
      });
      context.putImageData(image, FRAMES - frames.length, 0);
    }
    this.shown = this.shown.filter(({ label, frame }) => {
      const left = 1 - (this.drawn - frame) / FRAMES;
      if (left < 0) label.remove();
      label.style.left = `${100 * left}%`;
      return left >= 0;
    });
  }
}

function colour(share) {
  const position = Math.min(1, Math.max(0, share)) * (COLOURS.length - 1);
  const i = Math.min(COLOURS.length - 2, Math.floor(position));
  const mix = COLOURS[i].map((from, c) => from + (COLOURS[i + 1][c] - from) * (position - i));
  return [...mix, 255];
}
