"""Which engine runs a model file: the C engine where it was built and has the model, else onnxruntime."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from kws.c.build import is_built
from kws.c.engine import CModel
from kws.errors import KwsError, ModelError
from kws.runtime.onnx_model import SpotterModel
from kws.runtime.shipped import DEFAULT

ENGINES: dict[str, type[SpotterModel] | type[CModel]] = {"onnxruntime": SpotterModel, "c": CModel}


def load_model(model: SpotterModel | CModel | str | Path | None, engine: str | None = None) -> SpotterModel | CModel:
    """A model loaded by `engine`, or, for None, by the C engine where it was built and has what the model needs.

    Raises `ModelError` for a file that is no model, `KwsError` for an unknown engine or one that cannot be made.
    """
    if isinstance(model, SpotterModel | CModel):
        return model
    if engine is not None:
        if engine not in ENGINES:
            raise KwsError(f"engine is {engine!r}; choose one of {', '.join(ENGINES)}")
        return ENGINES[engine](model or DEFAULT)
    if is_built():
        with suppress(ModelError):  # of another architecture, or no model: onnxruntime says so
            return CModel(model or DEFAULT)
    return SpotterModel(model or DEFAULT)


def engine_of(model: str | Path) -> str | None:
    """What computes a model here, `c` or `onnxruntime`; None: nothing does (a file that takes features)."""
    with suppress(ModelError):
        return "c" if isinstance(load_model(model), CModel) else "onnxruntime"
    return None
