"""The wheel's C engine, compiled as the wheel is built or kws installed; `make wheels` names a platform in KWS_WHEEL.

Without a compiler that works the wheel is made without it; kws then runs on onnxruntime alone.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent))
from kws.c.build import HERE, SOURCES, TARGETS, EngineError, build, build_wasm, remove_stale


class EngineHook(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the library beside its sources for an editable install, into the wheel otherwise."""

    def dependencies(self) -> list[str]:
        """A compiler in a package: for browsers, for other platforms, and where there is no other."""
        return ["ziglang"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """What hatchling calls before it makes a wheel."""
        name = os.environ.get("KWS_WHEEL", "")
        target = TARGETS[name] if name else HERE
        if version == "editable":
            remove_stale(SOURCES)
            folder = SOURCES
        else:
            self.folder = tempfile.TemporaryDirectory()
            folder = Path(self.folder.name)
        try:
            libraries = [build(folder, variant, target) for variant in target.variants]
        except EngineError as error:
            if name:
                raise
            self.app.display_warning(f"kws is installed without its C engine: {error}")
            return
        try:
            libraries.append(build_wasm(folder))
        except EngineError as error:
            if name:
                raise
            self.app.display_warning(f"kws is installed without its engine for browsers: {error}")
        tag = target.tag or sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{tag}"
        if version != "editable":
            build_data["force_include"].update({str(path): f"kws/c/{path.name}" for path in libraries})
