"""Every option of the project as a dataclass: defaults, units, exact conversion to samples, validation.

Standard library only. YAML and command lines speak milliseconds, the properties here speak samples. A value out of
range raises `ValueError` with one sentence that names the value, as soon as the dataclass is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar
from unicodedata import category

from kws.errors import KwsError, above, between, one_of

SILENCE = "_silence_"
UNKNOWN = "_unknown_"
BACKGROUND_NOISE = "_background_noise_"
SPLITS = ("train", "validation", "test")
MOST_LABELS, LONGEST_LABEL = 10_000, 64  # characters
LONGEST_MS, LARGEST_SEED, MOST_PROCESSES = 10_000, 2**31 - 1, 1024
RATES = (1000, 384_000)  # Hz of any audio, at least and at most
FRONTEND_BOUNDS: dict[str, tuple[float, float]] = {
    "sample_rate": RATES,
    "win_ms": (0.01, LONGEST_MS),
    "hop_ms": (0.01, LONGEST_MS),
    "n_fft": (2, 1 << 16),
    "n_mels": (1, 1 << 15),
    "n_mfcc": (1, 1 << 15),
    "f_min": (0, 384_000),
    "f_max": (0, 384_000),
    "log_offset": (1e-30, 1),
}


def is_keyword(label: str) -> bool:
    """Whether a label is to be detected: one that does not begin with `_`."""
    return not label.startswith("_")


def labels_fault(labels: Any) -> str | None:
    """What is wrong with the labels of a file that may be a stranger's; None: nothing."""
    if not isinstance(labels, list) or not all(isinstance(x, str) for x in labels) or len(set(labels)) < len(labels):
        return f"labels is {labels!r}, not a list of different names"
    if not keywords_of(labels) or len(labels) < 2:
        return f"labels is {labels!r}, which needs a keyword and something else"
    if len(labels) > MOST_LABELS:
        return f"labels are {len(labels)}; there may be at most {MOST_LABELS}"
    for label in labels:
        if not 0 < len(label) <= LONGEST_LABEL or any(c in "/\\" or category(c).startswith("C") for c in label):
            return f"labels holds {label!r}, which is empty, too long, or holds a slash or a control character"
    return None


def keywords_of(labels: Iterable[str]) -> list[str]:
    """The labels that are to be detected."""
    return [label for label in labels if is_keyword(label)]


def exact_samples(milliseconds: float, sample_rate: int, name: str = "duration") -> int:
    """Milliseconds as a whole number of samples; `ValueError` if it is not whole."""
    samples = milliseconds * sample_rate / 1000
    if abs(samples - round(samples)) > 1e-6:
        raise KwsError(f"{name} of {milliseconds} ms is {samples} samples at {sample_rate} Hz; choose a whole number")
    return round(samples)


def whole_frames(milliseconds: float, sample_rate: int, frame_length: int) -> int:
    """Milliseconds as frames of logits, rounded up, at least one: of every window and wait, in training and in use.

    `wholeFrames` in `kws/apps/web/detector.js` is its twin.
    """
    return max(1, math.ceil(milliseconds * sample_rate / 1000 / frame_length - 1e-9))


def _bounds(group: str, options: object, **bounds: tuple[float, ...]) -> None:
    """Check options of a group, by name, each against its lowest value and, where there is one, its highest."""
    for name, low_high in bounds.items():
        between(f"{group}.{name}", getattr(options, name), *low_high)


@dataclass
class FrontendConfig:
    """Waveform to features: a causal STFT, then a spectrogram, a log-mel spectrogram or MFCCs."""

    kind: str = "log_mel"  # log_mel | mfcc | spectrogram
    sample_rate: int = 16000  # Hz
    win_ms: float = 25.0
    hop_ms: float = 10.0
    n_fft: int = 512
    n_mels: int = 40
    n_mfcc: int = 20  # used by mfcc alone
    f_min: float = 20.0  # Hz
    f_max: float = 4000.0  # Hz
    mel_scale: str = "htk"  # htk | slaney: where the bands lie; slaney's triangles have an area of 1 Hz
    log_offset: float = 1e-6  # added to the power before the logarithm

    def __post_init__(self) -> None:
        one_of("frontend.kind", self.kind, ("log_mel", "mfcc", "spectrogram"))
        one_of("frontend.mel_scale", self.mel_scale, ("htk", "slaney"))
        _bounds("frontend", self, **FRONTEND_BOUNDS)
        if self.hop_length > self.win_length:
            raise KwsError(f"frontend.hop_ms {self.hop_ms} is longer than frontend.win_ms {self.win_ms}")
        if self.n_fft < self.win_length:
            raise KwsError(f"frontend.n_fft {self.n_fft} is shorter than the window of {self.win_length} samples")
        if not 0 <= self.f_min < self.f_max:
            raise KwsError(f"frontend.f_min {self.f_min} Hz must be at least 0 and below f_max {self.f_max} Hz")
        if self.f_max > self.sample_rate / 2:
            raise KwsError(f"frontend.f_max {self.f_max} Hz is above the Nyquist frequency {self.sample_rate / 2} Hz")
        _bounds("frontend", self, n_mels=(1, self.n_bins), n_mfcc=(1, self.n_mels))

    @property
    def win_length(self) -> int:
        """Window length in samples."""
        return exact_samples(self.win_ms, self.sample_rate, "frontend.win_ms")

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return exact_samples(self.hop_ms, self.sample_rate, "frontend.hop_ms")

    @property
    def context_length(self) -> int:
        """Past samples that the first frame of a block still needs."""
        return self.win_length - self.hop_length

    @property
    def n_bins(self) -> int:
        """Frequency bins of the one-sided STFT."""
        return self.n_fft // 2 + 1

    @property
    def n_features(self) -> int:
        """Features in a frame."""
        return {"log_mel": self.n_mels, "mfcc": self.n_mfcc, "spectrogram": self.n_bins}[self.kind]


@dataclass
class ModelConfig:
    """What every classifier of features has. Each architecture adds its own options in a subclass, as in `MODELS`."""

    architecture: ClassVar[str]

    dropout: float = 0.1
    pooling: str = "mean"  # how frames become a clip score: sum | mean (kws.runtime.posteriors.pool_posteriors)
    pool_ms: float = 500.0  # over the last pool_ms of a clip, and the detector's default window

    def __post_init__(self) -> None:
        one_of("model.pooling", self.pooling, ("sum", "mean"))
        between("model.dropout", self.dropout, 0, 0.95)
        above("model.pool_ms", self.pool_ms)
        between("model.pool_ms", self.pool_ms, 0, 60_000)

    def to_dict(self) -> dict[str, Any]:
        """Architecture and options as plain JSON types; `model_from_dict` reads them."""
        return {"architecture": self.architecture, **asdict(self)}


@dataclass
class RecurrentConfig(ModelConfig):
    """Features to logits: optional causal convolutions and projection, stacked recurrent cells, a linear head."""

    architecture: ClassVar[str] = "recurrent"

    cell: str = "lstm"  # lstm | gru | rnn
    hidden_size: int = 96
    num_layers: int = 1
    conv_channels: list[int] = field(default_factory=lambda: [24, 32, 48])  # empty: no convolution
    speech_convs: int = 0  # in their place so many of Google's speech embedding, not trained: 15 give 40 ms a frame
    conv_kernel: int = 3  # frames and bands
    time_stride: int = 2  # frames per logit frame; taken by the first convolution
    projection_size: int = 64  # features into the cell; 0: no projection
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("model.cell", self.cell, ("lstm", "gru", "rnn"))
        _bounds("model", self, hidden_size=(1, 4096), num_layers=(1, 16), projection_size=(0, 4096))
        _bounds("model", self, conv_kernel=(1, 31), time_stride=(1, 31), forget_bias=(-100, 100), speech_convs=(0, 20))
        if self.speech_convs and self.conv_channels:
            raise KwsError("model.speech_convs are in place of model.conv_channels; set conv_channels=[] time_stride=1")
        between("the number of model.conv_channels", len(self.conv_channels), 0, 16)
        for channels in self.conv_channels:
            between("model.conv_channels", channels, 1, 1024)
        if not self.conv_channels and self.time_stride != 1:
            raise KwsError(f"model.time_stride {self.time_stride} needs model.conv_channels, which is empty")
        if self.time_stride > self.conv_kernel:
            raise KwsError(
                f"model.time_stride {self.time_stride} skips frames: model.conv_kernel is {self.conv_kernel}"
            )


@dataclass
class SpeechEmbeddingConfig(ModelConfig):
    """Google's speech embedding, then a linear head over its last frames: what one's own words are made of."""

    architecture: ClassVar[str] = "speech_embedding"

    head_frames: int = 12  # of 80 ms, that the head hears at once

    def __post_init__(self) -> None:
        super().__post_init__()
        between("model.head_frames", self.head_frames, 1, 100)


@dataclass
class BCResNetConfig(ModelConfig):
    """BC-ResNet, a rival that hears whole clips and is not streamed."""

    architecture: ClassVar[str] = "bcresnet"

    width: float = 1.0  # of the channels: 1 is BC-ResNet-1, 8 is BC-ResNet-8

    def __post_init__(self) -> None:
        super().__post_init__()
        between("model.width", self.width, 0.25, 32)


MODELS: dict[str, type[ModelConfig]] = {
    config.architecture: config for config in (RecurrentConfig, SpeechEmbeddingConfig, BCResNetConfig)
}


def model_from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The options that `ModelConfig.to_dict` gave, also before each architecture had options of its own.

    Files from then hold the other architecture's options too, which are left out, or no architecture: recurrent.
    Raises `ValueError` for an architecture, an option or a value that there is not.
    """
    architecture = values.get("architecture", "recurrent")
    one_of("model.architecture", architecture, MODELS)
    own = {option.name for option in fields(MODELS[architecture])}
    others = {option.name for config in MODELS.values() for option in fields(config)} - own
    options = {name: value for name, value in values.items() if name not in {"architecture", *others}}
    if unknown := sorted(set(options) - own):
        raise KwsError(f"model has no option {', '.join(unknown)}; {architecture} has {', '.join(sorted(own))}")
    return MODELS[architecture](**options)


@dataclass
class DataConfig:
    """What every data source shares. A source adds its own options in a subclass."""

    source: str = "speech_commands"  # speech_commands | synthetic | folder
    root: str = "data"  # where the audio lies or is put
    cache_dir: str = ".cache/kws"  # packed clips
    label_set: str = "12"  # 12 | 35 | 30 | all | own (all, _unknown_ and _silence_): used when keywords is empty
    keywords: list[str] = field(default_factory=list)  # these words, and the rest as unknown
    unknown_ratio: float = 0.1  # unknown clips as a share of the keyword clips, in evaluation splits
    silence_ratio: float = 0.1  # likewise silence
    train_unknown_ratio: float = 0.25  # likewise in an epoch of training, drawn anew each epoch
    train_silence_ratio: float = 0.15
    train_shuffled_ratio: float = 0.0  # likewise keyword clips cut up and shuffled, as unknown words of the same voices
    train_min_clips: int = 0  # keyword clips in an epoch at least: fewer are repeated, each time augmented anew
    train_noise_variants: int = 4  # copies of the background noise in other colours, to train on too
    train_recordings: str = ""  # a recording set to cut clips from too (kws.make_stream recipe=training)
    train_recordings_ratio: float = 0.4  # those clips as a share of the keyword clips
    speech: str = ""  # running speech, a folder or a table of files: whatever is said in it is `_unknown_`
    speech_share: float = 0.3  # of the lanes of a batch that hear it
    speech_run_clips: int = 3  # clips of it in a row, the state carried, before a lane hears something else
    speech_margin: float = 0.0  # log ratio of a keyword to what is none up to which the model may be wrong in it
    speech_mined: int = 3000  # places where the model hears a keyword in it, to be heard more often; 0: none
    speech_validation: str = (
        ""  # running speech with texts: the epoch is kept that misses least at 1 false alarm an hour
    )
    speech_command_mode: bool = False  # a keyword that its text says is no command either, instead of passed over
    clip_ms: float = 1000.0
    workers: int = 0  # processes that decode; 0: one per core
    seed: int = 0  # draws evaluation silence, unknown clips, synthetic speech

    def __post_init__(self) -> None:
        one_of("data.source", self.source, ("speech_commands", "synthetic", "folder", "phonemes"))
        one_of("data.label_set", self.label_set, ("12", "35", "30", "all", "own"))
        shares = ("unknown", "silence", "train_unknown", "train_silence", "train_shuffled", "train_recordings")
        _bounds("data", self, **{f"{share}_ratio": (0, 10) for share in shares})
        if len(set(self.keywords)) != len(self.keywords):
            raise KwsError(f"data.keywords names a word twice: {', '.join(self.keywords)}")
        for word in self.keywords:
            if not is_keyword(word) or not word.strip():
                raise KwsError(f"data.keywords holds {word!r}, which is not a word")
        above("data.clip_ms", self.clip_ms)
        _bounds("data", self, clip_ms=(0, 60_000), workers=(0, MOST_PROCESSES), seed=(0, LARGEST_SEED))
        _bounds("data", self, train_noise_variants=(0, 100), train_min_clips=(0, 10_000_000))
        _bounds("data", self, speech_share=(0, 0.9), speech_run_clips=(1, 1000), speech_margin=(0, 20))
        _bounds("data", self, speech_mined=(0, 10_000_000))


@dataclass
class SpeechCommandsConfig(DataConfig):
    """Google Speech Commands (P. Warden, 2018, arXiv 1804.03209)."""

    version: str = "v0.02"  # v0.01 | v0.02
    url: str = ""  # another address to download the archive from; empty: the official one
    download: bool = True
    test_dir: str = ""  # the official test archive, unpacked; empty: the test split of the lists

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("data.version", self.version, ("v0.01", "v0.02"))


@dataclass
class SyntheticConfig(DataConfig):
    """Words spoken by espeak-ng, made once and written in the Speech Commands layout."""

    source: str = "synthetic"
    words: list[str] = field(default_factory=list)  # words to speak; empty: the 35 of Speech Commands
    clips_per_word: int = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        between("data.clips_per_word", self.clips_per_word, 10, 100_000)


@dataclass
class FolderConfig(DataConfig):
    """One folder of audio files per word, any rate and number of channels."""

    source: str = "folder"
    root: str = "recordings"
    label_set: str = "own"
    # Few clips of one's own, and mostly other things to be heard; in evaluation as in training.
    unknown_ratio: float = 3.0
    silence_ratio: float = 0.3
    train_unknown_ratio: float = 2.0
    train_silence_ratio: float = 0.3
    train_shuffled_ratio: float = 1.0
    train_min_clips: int = 1500
    validation_percent: float = 15.0
    test_percent: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _bounds("data", self, validation_percent=(0, 100), test_percent=(0, 100))
        between("data.validation_percent + data.test_percent", self.validation_percent + self.test_percent, 0, 99)


@dataclass
class PhonemesConfig(DataConfig):
    """Running speech and words with their phonemes, for an encoder (experiment=encoder)."""

    source: str = "phonemes"
    speech: str = "speech/train.csv"  # a table of speech to learn from; so are the next two
    calibrate: str = "speech/calibrate.csv"  # thresholds of typed words are chosen on it
    check: str = "speech/check.csv"  # the phoneme error is measured on it
    words_root: str = ""  # Speech Commands; empty: no single words
    words_clips: int = 8000  # of its training split, at most
    spoken: int = 2400  # pieces by synthetic voices
    left_out: list[str] = field(default_factory=list)  # words that are not to be heard: to measure new words with
    copies: int = 2  # of each piece: the first as it is, the others through rooms, noise and microphones

    def __post_init__(self) -> None:
        super().__post_init__()
        _bounds("data", self, words_clips=(0, 1_000_000), spoken=(0, 1_000_000), copies=(1, 1000))


DATA_SOURCES: dict[str, type[DataConfig]] = {
    "speech_commands": SpeechCommandsConfig,
    "synthetic": SyntheticConfig,
    "folder": FolderConfig,
    "phonemes": PhonemesConfig,
}
RENAMED = {"train_stream": "train_recordings", "train_stream_ratio": "train_recordings_ratio"}


def data_from_dict(values: Mapping[str, Any]) -> DataConfig:
    """The options of a data source as a checkpoint or a model's card holds them, also by the names of before.

    Raises `ValueError` for a source, an option or a value that there is not.
    """
    source = str(values.get("source"))
    one_of("data.source", source, DATA_SOURCES)
    options = {RENAMED.get(name, name): value for name, value in values.items()}
    if unknown := sorted(set(options) - {option.name for option in fields(DATA_SOURCES[source])}):
        raise KwsError(f"data has no option {', '.join(unknown)} of the source {source}")
    try:
        return DATA_SOURCES[source](**options)
    except TypeError as error:
        raise KwsError(f"data holds a value of a wrong type: {error}") from error


@dataclass
class AugmentConfig:
    """Whole-batch augmentation; a probability of 0 switches a part off."""

    shift_ms: float = 100.0  # uniform in +- this
    gain_db: float = 10.0  # uniform in +- this
    speed: float = 0.1  # resampling by a factor uniform in 1 +- this
    noise_probability: float = 0.8
    noise_dir: str = ""  # a folder of recorded noise to add beside the data set's own
    rir_dir: str = ""  # a folder of impulse responses of rooms, to let clips echo
    rir_probability: float = 0.3
    snr_db_min: float = 0.0
    snr_db_max: float = 30.0
    fade_ms: float = 5.0  # raised-cosine fade at both ends of a clip, so that joins do not click
    freq_masks: int = 0
    freq_mask_width: int = 5  # bands, at most
    time_masks: int = 0
    time_mask_width: int = 15  # frames, at most

    def __post_init__(self) -> None:
        widths = ("shift_ms", "gain_db", "fade_ms", "freq_masks", "freq_mask_width", "time_masks", "time_mask_width")
        _bounds("augment", self, **dict.fromkeys(widths, (0, LONGEST_MS)))
        _bounds("augment", self, snr_db_min=(-200, 200), snr_db_max=(-200, 200))
        _bounds("augment", self, speed=(0, 0.5), noise_probability=(0, 1), rir_probability=(0, 1))
        if self.snr_db_min > self.snr_db_max:
            raise KwsError(f"augment.snr_db_min {self.snr_db_min} is above augment.snr_db_max {self.snr_db_max}")


@dataclass
class TrainerConfig:
    """Optimiser, schedule and devices. Each lane of a batch is a stream whose state is carried from clip to clip."""

    epochs: int = 30
    batch_size: int = 128  # lanes
    reset_probability: float = 0.05  # chance that a lane starts its next clip from the zero state; 1: isolated clips
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    warmup_epochs: float = 1.0
    gradient_clip: float = 1.0  # largest gradient norm; 0: no clipping
    label_smoothing: float = 0.1
    average_decay: float = 0.998  # per step, of the averaged weights that are evaluated and kept; 0: none
    logit_adjustment: bool = True  # towards the label shares of evaluation (kws.training.label_shares)
    early_stopping_epochs: int = 0  # epochs without a better validation accuracy before stopping; 0: never
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "auto"  # bf16-mixed where the device computes it, else 32-true; or one of Fabric's
    threads: int = 0  # torch threads; 0: torch's choice

    def __post_init__(self) -> None:
        epochs = (0, 1_000_000)
        _bounds("trainer", self, epochs=(1, *epochs[1:]), warmup_epochs=epochs, early_stopping_epochs=epochs)
        _bounds("trainer", self, batch_size=(1, 1 << 16), reset_probability=(0, 1), weight_decay=(0, 1000))
        _bounds("trainer", self, gradient_clip=(0, 1e9), label_smoothing=(0, 0.9), average_decay=(0, 0.99999))
        above("trainer.learning_rate", self.learning_rate)
        processes = (1, MOST_PROCESSES)
        _bounds("trainer", self, devices=processes, num_nodes=processes, threads=(0, MOST_PROCESSES))


@dataclass
class DistillationConfig:
    """A trained model whose posteriors the new one learns beside the labels (Hinton et al., 2015, arXiv 1503.02531)."""

    teachers: list[str] = field(default_factory=list)  # checkpoints with the same labels, one or several together
    weight: float = 0.5  # of the teachers' mean posteriors in the targets; the rest is the label's

    def __post_init__(self) -> None:
        between("distillation.weight", self.weight, 0, 1)


@dataclass
class TrainConfig:
    """One training run."""

    data: DataConfig = field(default_factory=DataConfig)  # of the chosen source
    frontend: FrontendConfig = field(default_factory=FrontendConfig)
    model: ModelConfig = field(default_factory=ModelConfig)  # of the chosen architecture
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    experiment: Any = None  # name of the recipe, when one was chosen
    seed: int = 0
    init_from: str = ""  # a checkpoint to start from: same front end, model and labels
    resume: bool = False  # go on with run_dir, or with the newest unfinished run
    overwrite: bool = False  # begin anew in a run_dir that holds a run
    run_dir: str = ""  # where checkpoints and logs go; empty: runs/<date>/<time>

    def __post_init__(self) -> None:
        between("seed", self.seed, 0, LARGEST_SEED)
