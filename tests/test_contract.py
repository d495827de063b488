"""What metadata a model file must have: the cases of `contract.json`, judged alike in Python and on the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from javascript import node

from kws.runtime.contract import contradiction

CASES = json.loads(Path(__file__).with_name("contract.json").read_text())


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The good metadata with changes; `(removed)` stands for a key that is not there."""
    return {key: value for key, value in {**CASES["base"], **changes}.items() if value != "(removed)"}


@pytest.mark.parametrize("changes", CASES["good"], ids=json.dumps)
def test_good_metadata(changes: dict[str, Any]) -> None:
    assert contradiction(changed(changes)) is None


@pytest.mark.parametrize(("changes", "named"), CASES["bad"], ids=json.dumps)
def test_bad_metadata_is_refused_in_one_sentence_that_names_it(changes: dict[str, Any], named: str) -> None:
    what = contradiction(changed(changes))
    assert what is not None
    assert named in what
    assert "\n" not in what


def test_the_page_judges_alike(tmp_path: Path) -> None:
    cases = [*((changes, None) for changes in CASES["good"]), *CASES["bad"]]
    script = """
        import { contradiction } from "./contract.js";
        console.log(JSON.stringify(given.map((metadata) => contradiction(metadata))));
    """
    found = node(tmp_path, script, [changed(changes) for changes, _ in cases])
    for (changes, named), what in zip(cases, found, strict=True):
        assert (what is None) == (named is None), (changes, what)
        assert named is None or named in what, (changes, what)
