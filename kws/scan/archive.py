"""A whole scan: sources -> shard -> parts -> an engine -> results, summary and ranking."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kws.scan.clips import write_clips
from kws.scan.cluster import scan_on_ray
from kws.scan.processes import scan_parts
from kws.scan.progress import Progress
from kws.scan.results import Results
from kws.scan.scanner import Settings
from kws.scan.sources import in_shard, list_sources, parts
from kws.scan.summary import as_text, ranking, summarise, write_ranking, write_summary
from kws.system.jobs import cores

ALL = 1 << 62
CLUSTER = 100  # cores that parts are made for where nobody says how many there are


def scan(
    given: Sequence[str],
    results: Results,
    settings: Settings,
    *,
    score: str,
    workers: int | None = None,
    ray: str | None = None,
    resume: bool = False,
    top: int | None = None,
    clips: Path | None = None,
) -> dict[str, Any]:
    """Scan what is `given` and return the summary, which lies beside the results too.

    score: the kind that the detector has. workers: processes (None: one for each core). ray: the address of a cluster,
    as of `scan_on_ray`; None: this machine's processes. top: write `ranking.csv` of so many detections a keyword.
    clips: a folder for the audio of those, or of all.

    Raises `KwsError`, `OSError`: the results stay as far as they are, and `resume` goes on.
    """
    kept = {"model": settings.model, "model_path": settings.model_path, "engine": settings.engine}
    what = {"detector": settings.detector, "keywords": list(settings.keywords), "min_score": settings.min_score}
    with results.begin({**kept, **what}, resume):
        skip = [results.folder, *([clips] if clips else [])]
        sources = [source for source in list_sources(given, skip) if in_shard(source.name, *results.shard)]
        finished = results.finished()
        left = [source for source in sources if source.name not in finished]
        if finished:
            print(f"{len(sources) - len(left):,} of {len(sources):,} files are finished", file=sys.stderr, flush=True)
        progress = Progress(len(left), sum(source.size for source in left))
        if left:
            count = workers or cores()
            if ray is None:
                events = scan_parts(settings, parts(left, count), count)
            else:
                events = scan_on_ray(settings, parts(left, workers or CLUSTER), workers, ray)
            for event in events:
                if event.part is not None and event.found is not None:
                    results.write(event.part, event.found.detections, event.found.files)
                progress.update(event.worker, event.tally, event.found is not None)
            progress.finish()
        summary = summarise(results, score)
        write_summary(results, summary)
        if top is not None or clips is not None:
            rows = ranking(results, ALL if top is None else top)
            if clips is not None:
                for failure in write_clips(clips, rows):
                    print(f"error: {failure}", file=sys.stderr)
            write_ranking(results.folder / "ranking.csv", rows)
        print(as_text(summary))
    return summary
