// On the audio thread: hands the microphone's samples over, its first two channels averaged, 10 ms and more at once.

const STARTING = 0.2; // seconds in which a browser's audio may stutter before it runs

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(128 * Math.ceil(sampleRate / 100 / 128));
    this.filled = 0;
    this.next = 0; // the frame that must come next: a jump is an overrun
  }

  process([channels]) {
    if (!channels.length) {
      this.next = 0; // the microphone pauses: that is no overrun
      return true;
    }
    const [left, right = left] = channels;
    const gap = this.next && currentTime > STARTING ? currentFrame - this.next : 0;
    this.next = currentFrame + left.length;
    for (let i = 0; i < left.length; i += 1) this.block[this.filled + i] = (left[i] + right[i]) / 2;
    this.filled += left.length;
    if (this.filled === this.block.length || gap) {
      const samples = this.block.slice(0, this.filled);
      this.port.postMessage({ samples, gap, time: this.next / sampleRate }, [samples.buffer]);
      this.filled = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
