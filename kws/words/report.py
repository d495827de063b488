"""`report.html`: what a spotter of one's own words promises, in one file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import soundfile

from kws.runtime.operating_points import OperatingPoint
from kws.system.atomic import whole_file
from kws.words import negatives
from kws.words.confusion import Confusion
from kws.words.mixing import SAMPLE_RATE
from kws.words.speak import read_spoken
from kws.words.stages import Workshop

CLIPS = 4  # to listen to, of each word
WORST = 12  # texts that it confuses, shown
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}audio{height:2rem;width:11rem}svg{width:100%;height:auto}
.default{font-weight:600}.note{color:#555}"""


def write_report(
    path: Path,
    shop: Workshop,
    points: Sequence[OperatingPoint],
    default: float,
    spoken: Sequence[Path],
    alike: Sequence[Confusion],
) -> None:
    """Write the page; whole or not at all."""
    words = "".join(f"<tr><td>{html.escape(w.label)}</td><td>{html.escape(w.ipa)}</td></tr>" for w in shop.words)
    rows = "".join(_row(point, point.fa_per_hour == default) for point in points)
    untold = sum(not utterance.text for utterance in shop.calibrate)
    notes = [
        "Misses are of synthetic voices that were not trained on, in rooms and noise that were made up; people differ. "
        "What counts is how often your own voice is missed: say it ten times to <code>kws listen</code>.",
        f"False alarms were counted in {negatives.hours(shop.calibrate):.2f} h of speech that was not trained on.",
    ]
    if untold:
        notes.append(
            f"Nobody wrote down what is said in {untold} of those files: it was taken to be none of the words."
        )
    if any(point.extrapolated for point in points):
        notes.append("Extrapolated: promised from the tail of the scores, for there were too few hours to count.")
    page = f"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{html.escape(", ".join(shop.labels))}</title>
<style>{STYLE}</style><h1>{html.escape(", ".join(shop.labels))}</h1>
<table><tr><th>word</th><th>said as</th></tr>{words}</table>
<p>{len(shop.takes.sounds)} takes, {negatives.hours(shop.train):.1f} h of other speech to learn from.</p>
<h2>What it promises</h2>
<table><tr><th>false alarms an hour</th><th>seen</th><th>misses</th><th>thresholds</th></tr>{rows}</table>
{_curve(points)}<h2>What it confuses</h2>{_confused(alike)}
<h2>What it was told</h2>{_listen(shop, spoken)}
<h2>Notes</h2><ul>{"".join(f'<li class="note">{note}</li>' for note in notes)}</ul></html>
"""
    with whole_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _confused(alike: Sequence[Confusion]) -> str:
    """What fired most often of the sound-alikes and parts of the words."""
    fired, said = sum(x.fired for x in alike), sum(x.said for x in alike)
    worst = sorted((x for x in alike if x.fired), key=lambda x: -x.fired)[:WORST]
    rows = "".join(
        f"<tr><td>{html.escape(x.text)}</td><td>{html.escape(x.label)}</td><td>{x.fired} of {x.said}</td></tr>"
        for x in worst
    )
    table = f"<table><tr><th>said</th><th>near</th><th>fired</th></tr>{rows}</table>" if worst else ""
    return (
        f"<p>Of {len(alike)} texts that sound like the words or are parts of them, by synthetic voices and each alone, "
        f"{fired} of {said} clips fired. Nothing was learned from them: in the false alarms promised above, such words "
        f"come as often as people say them.</p>{table}"
    )


def _row(point: OperatingPoint, is_default: bool) -> str:
    thresholds = ", ".join(f"{html.escape(name)} {value:.2f}" for name, value in point.thresholds.items())
    low, high = point.fa_interval
    marks = ", default" * is_default + ", extrapolated" * point.extrapolated
    return (
        f"<tr{' class=default' if is_default else ''}><td>{point.fa_per_hour:g}{marks}</td>"
        f"<td>{point.false_alarms} in {point.hours:.1f} h ({low:.2g} to {high:.2g})</td>"
        f"<td>{_misses(point):.1%} of {point.events}</td><td>{thresholds}</td></tr>"
    )


def _misses(point: OperatingPoint) -> float:
    return point.misses / max(1, point.events)


def _curve(points: Sequence[OperatingPoint]) -> str:
    """Misses against the false alarms promised: an SVG."""
    width, height, left, bottom = 640, 260, 50, 40
    places = []
    for i, point in enumerate(points):
        x = left + (width - left - 20) * i / max(1, len(points) - 1)
        places.append((x, height - bottom - (height - bottom - 20) * _misses(point), point))
    line = " ".join(f"{x:.0f},{y:.0f}" for x, y, _ in places)
    marks = "".join(
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="#0b62a4"/><text x="{x:.0f}" y="{height - 18}" font-size="12" '
        f'text-anchor="middle">{p.fa_per_hour:g}</text><text x="{x:.0f}" y="{y - 8:.0f}" font-size="12" '
        f'text-anchor="middle">{_misses(p):.0%}</text>'
        for x, y, p in places
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="misses against false alarms an hour">'
        f'<polyline points="{line}" fill="none" stroke="#0b62a4" stroke-width="2"/>{marks}'
        f'<text x="{width / 2:.0f}" y="{height - 2}" font-size="12" text-anchor="middle">false alarms an hour</text>'
        "</svg>"
    )


def _listen(shop: Workshop, spoken: Sequence[Path]) -> str:
    """Some of the clips that it learned from, a player each."""
    heard: dict[int, list[str]] = {}
    for path in spoken[:: max(1, len(spoken) // 6)]:
        for clip, label in zip(*read_spoken(path)[:2], strict=True):
            if label >= 0 and len(heard.setdefault(int(label), [])) < CLIPS and len(clip):
                file = io.BytesIO()
                soundfile.write(file, clip, SAMPLE_RATE, format="WAV")
                data = base64.b64encode(file.getvalue()).decode()
                heard[int(label)].append(f'<audio controls src="data:audio/wav;base64,{data}"></audio>')
    return "".join(f"<p>{html.escape(shop.labels[k])}<br>{''.join(clips)}</p>" for k, clips in sorted(heard.items()))
