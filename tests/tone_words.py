"""A tiny data set in the Speech Commands layout whose words are tones: quick to make, quick to learn."""

import hashlib

import numpy as np
import soundfile as sf

WORDS = {"yes": 400, "no": 800, "stop": 1600, "go": 2600}  # Hz


def write_tone_words(root, speakers=40, takes=3, words=WORDS, rate=16000):
    """`root/<word>/<speaker>_nohash_<n>.wav` and background noise."""
    rng = np.random.default_rng(0)
    time = np.arange(rate) / rate
    for word, frequency in words.items():
        (root / word).mkdir(parents=True)
        for speaker in range(speakers):
            for take in range(takes):
                tone = np.sin(2 * np.pi * frequency * rng.uniform(0.97, 1.03) * time)
                envelope = np.exp(-(((time - rng.uniform(0.4, 0.6)) / 0.12) ** 2))
                samples = rng.uniform(0.1, 0.5) * tone * envelope + 0.003 * rng.standard_normal(rate)
                name = hashlib.sha1(str(speaker).encode()).hexdigest()[:8]
                sf.write(root / word / f"{name}_nohash_{take}.wav", samples, rate, subtype="PCM_16")
    (root / "_background_noise_").mkdir()
    sf.write(root / "_background_noise_" / "hiss.wav", 0.02 * rng.standard_normal(12 * rate), rate, subtype="PCM_16")
    return root
