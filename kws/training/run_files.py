"""The files of a training run, by name; `newest_unfinished` run of a folder."""

from __future__ import annotations

from pathlib import Path

BEST, LAST = "best.safetensors", "last.safetensors"  # checkpoints: of the best and of the last epoch
LAST_STEP = "last.pt"  # of an encoder, whose epochs are too long to lose
METRICS, RESULT = "metrics.csv", "result.json"  # numbers of each epoch, and of the run when it is finished
ERROR = "error.txt"  # why a run of a sweep ended without a result


def newest_unfinished(runs: Path) -> Path | None:
    """The run `<runs>/<date>/<time>` that went on last and has no result yet."""
    last = [path for path in runs.glob(f"*/*/{LAST}") if not path.with_name(RESULT).exists()]
    return max(last, key=lambda path: path.stat().st_mtime).parent if last else None
