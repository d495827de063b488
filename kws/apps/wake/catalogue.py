"""Which words a service can hear: the models of a folder, looked for again whenever somebody asks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from kws.c.choice import load_model
from kws.c.engine import CModel
from kws.config import keywords_of
from kws.errors import KwsError
from kws.runtime.detector import DetectorConfig
from kws.runtime.onnx_model import SpotterModel
from kws.runtime.shipped import DEFAULT, FOLDER

LOG = logging.getLogger("kws.serve")


class Loaded(NamedTuple):
    """A model of the folder, and the detector that its streams have."""

    name: str
    model: SpotterModel | CModel
    detector: DetectorConfig

    @property
    def language(self) -> str | None:
        """The language of its words; None: its file does not say."""
        known = (self.model.metadata.get("card") or {}).get("language")
        return str(known) if known else "en" if self.model.path.parent == FOLDER else None


class Word(NamedTuple):
    """A word that can be asked for by `name`, which no other has; `keyword` is the label of its model."""

    name: str
    keyword: str
    loaded: Loaded


class Catalogue:
    """The words of `*.onnx` in a folder, and of `model.onnx` in the folders within it, as `kws new` writes it.

    A model is called as its file, or, where that is `model.onnx`, as its folder. A word is
    called `MODEL.WORD`, or `WORD` alone where its model is called so too: names that no other model can change.
    """

    def __init__(self, folder: Path = FOLDER, fa_per_hour: float | None = None) -> None:
        """Nothing is read before `refresh`. fa_per_hour: the operating point of every model; None: its default."""
        self.folder, self._fa_per_hour = folder, fa_per_hour
        self._known: dict[Path, tuple[tuple[int, int], Loaded | None]] = {}  # its time and size, and what it is
        self.words: dict[str, Word] = {}

    def refresh(self) -> None:
        """Look at the folder again: what is new or changed is loaded, what is gone is forgotten.

        A file that is no model is passed over, with one line in the log. Raises `KwsError` where the folder is missing.
        """
        if not self.folder.is_dir():
            raise KwsError(f"--models {self.folder} is not a folder; name one that holds models (*.onnx)")
        found: dict[Path, tuple[tuple[int, int], Loaded | None]] = {}
        for path in sorted([*self.folder.glob("*.onnx"), *self.folder.glob("*/model.onnx")], key=_order):
            try:
                status = path.stat()
            except OSError:  # gone since
                continue
            stamp = (status.st_mtime_ns, status.st_size)
            known = self._known.get(path)
            found[path] = known if known is not None and known[0] == stamp else (stamp, self._load(path))
        models: dict[str, Loaded] = {}
        for path, (_, loaded) in found.items():
            if loaded and loaded is not models.setdefault(loaded.name, loaded) and path not in self._known:
                LOG.warning("%s is passed over: another model is called %s; rename one", path, loaded.name)
        self._known = found
        self.words = {word.name: word for loaded in models.values() for word in _words(loaded)}

    def _load(self, path: Path) -> Loaded | None:
        try:
            model = load_model(path)
            loaded = Loaded(_name(path), model, model.detector_at(self._fa_per_hour))
        except (KwsError, OSError) as error:
            LOG.warning("%s is passed over: %s", path, error)
            return None
        LOG.info("%s: %s", path, ", ".join(keywords_of(model.labels)))
        return loaded

    def select(self, names: Sequence[str] | None) -> tuple[dict[str, Word], list[str]]:
        """The words to listen for, by the name that is to be told when they are heard; and the names of none.

        A name is that of a word here, a model's (all of its words), or a word alone, which the first model that has it
        hears. None: every word, a word that several models have by the first of them.
        """
        chosen: dict[str, Word] = {}
        if names is None:
            for word in first_of_each(self.words.values()):
                chosen[word.name] = word
            return chosen, []
        unknown = []
        for name in names:
            of_model = [word for word in self.words.values() if word.loaded.name == name]
            alike = [word for word in self.words.values() if word.keyword == name]
            if name in self.words:
                chosen[name] = self.words[name]
            elif of_model:
                chosen.update((word.name, word) for word in of_model)
            elif alike:
                chosen[name] = alike[0]
            else:
                unknown.append(name)
        return chosen, unknown


def first_of_each(words: Iterable[Word]) -> list[Word]:
    """Of words that several models have, the first model's."""
    first: dict[str, Word] = {}
    for word in words:
        first.setdefault(word.keyword, word)
    return list(first.values())


def _words(loaded: Loaded) -> list[Word]:
    keywords = keywords_of(loaded.model.labels)
    return [Word(loaded.name if k == loaded.name else f"{loaded.name}.{k}", k, loaded) for k in keywords]


def _name(path: Path) -> str:
    return path.resolve().parent.name if path.stem == "model" else path.stem


def _order(path: Path) -> tuple[bool, str]:
    """The default model first, where it is among them, then by name."""
    return path.stem != DEFAULT, str(path)
