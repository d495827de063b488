"""The models that come with kws, by name: `gsc12` is a model wherever a file of one is."""

from __future__ import annotations

from pathlib import Path

from kws.errors import ModelError

FOLDER = Path(__file__).resolve().parents[1] / "models"
DEFAULT = "gsc12"


def find_model(given: str | Path) -> Path:
    """The file of a model, given as a file or as the name of one that comes with kws. Raises `ModelError`."""
    path = Path(given)
    if path.is_file():
        return path
    shipped = {file.stem: file for file in sorted(FOLDER.glob("*.onnx"))}
    if str(given) in shipped:
        return shipped[str(given)]
    names = f"no model that comes with kws ({', '.join(shipped)})" if shipped else "this copy of kws ships no model"
    raise ModelError(f"{given} is not a file, and {names}; give an ONNX model made by kws export")


def is_shipped(path: Path) -> bool:
    """Whether a file is one that comes with kws: nothing is to be written beside it."""
    return path.resolve().parent == FOLDER
