"""Options of the commands that make recording sets, evaluate and calibrate on them: defaults, units, validation."""

from __future__ import annotations

from dataclasses import dataclass, field

from kws.config import SPLITS, DataConfig
from kws.errors import KwsError, above, between, one_of


@dataclass
class MakeStreamConfig:
    """Hours of audio with keywords at known times, and hours without, from the clips of a split."""

    output: str = "???"  # the folder to make
    data: DataConfig = field(default_factory=DataConfig)  # of the chosen source
    split: str = "validation"
    positive_hours: float = 2.0  # keywords among unknown words
    negative_hours: float = 5.0  # sentences, unknown words and noise, no keyword
    file_minutes: float = 15.0
    keyword_share: float = 0.5  # of the words in positive hours
    spoken_share: float = 0.0  # of the words in positive hours: spoken by espeak-ng too, for sets to train on
    speech_share: float = 0.6  # of negative hours: sentences spoken by espeak-ng, in the voices of the split
    word_share: float = 0.25  # of negative hours: unknown words; the rest is noise alone
    sound_alike_share: float = 0.05  # of the sentences: with a word that sounds like a keyword
    pause_ms_min: float = 300.0  # between words
    pause_ms_max: float = 2500.0
    noise_dir: str = ""  # recorded noise in place of that of the split
    rir_dir: str = ""  # impulse responses of rooms, for echo in place of decaying noise
    snr_db_min: float = 5.0  # speech over background noise, drawn for each scene of 20 to 60 s
    snr_db_max: float = 20.0
    level_db_min: float = -38.0  # RMS of speech below full scale
    level_db_max: float = -18.0
    echo_probability: float = 0.5  # that a scene has room echo: exponentially decaying noise
    rt60_ms_min: float = 150.0  # time in which the echo falls by 60 dB
    rt60_ms_max: float = 600.0
    direct_db_min: float = 0.0  # direct sound over echo
    direct_db_max: float = 15.0
    workers: int = 0  # processes; 0: one per core
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("split", self.split, SPLITS)
        for name in ("positive_hours", "negative_hours", "pause_ms_min", "workers"):
            between(name, getattr(self, name), 0)
        above("positive_hours + negative_hours", self.positive_hours + self.negative_hours)
        between("file_minutes", self.file_minutes, 0.5)
        shares = ("keyword_share", "spoken_share", "speech_share", "word_share", "sound_alike_share")
        for name in (*shares, "echo_probability"):
            between(name, getattr(self, name), 0, 1)
        if self.speech_share + self.word_share > 1:
            raise KwsError(
                f"speech_share {self.speech_share} and word_share {self.word_share} are more than 1 together"
            )
        for name in ("pause_ms", "snr_db", "level_db", "rt60_ms", "direct_db"):
            low, high = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            if not low <= high:
                raise KwsError(f"{name}_min {low} is above {name}_max {high}")
        above("rt60_ms_min", self.rt60_ms_min)
        if self.level_db_max > 0:
            raise KwsError(f"level_db_max is {self.level_db_max}; it must be at most 0, full scale")
