# Two commands on a fresh machine: `make demo` and `make test`. Each sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test lint train models mic bench fuzz soak kill wheel wheels docs release clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.train: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("kws needs Python 3.10 or later" if sys.version_info < (3, 10) else 0)'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet -e '.[train,synth]'
	touch $@

$(VENV)/.dev: $(VENV)/.train
	$(PY) -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(VENV)/.train ## make data, train, evaluate, export and listen to a minute of speech
	$(PY) scripts/demo.py

train: $(VENV)/.train ## train on Speech Commands; options in ARGS, e.g. make train ARGS='model=tiny data.root=...'
	$(PY) -m kws.train $(ARGS)

models: $(VENV)/.train ## make kws/models again: speech, training, export, thresholds, figures; hours, e.g. ARGS='data.root=DIR'
	$(PY) scripts/make_models.py $(ARGS)

$(VENV)/.mic: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet -e '.[mic]'
	touch $@

mic: $(VENV)/.mic ## listen to the microphone; options in ARGS, e.g. make mic ARGS='--device usb'
	$(VENV)/bin/kws listen $(ARGS)

test: $(VENV)/.dev lint ## ruff, mypy and every test
	$(PY) -m pytest $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy and the imports between wings
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

bench: $(VENV)/.dev ## run-time cost of MODEL beside peers; without MODEL, speed of the training input
	$(if $(MODEL),$(PY) -m pip install --quiet -e '.[bench]' && $(PY) -m kws.benchmark $(MODEL) $(ARGS),$(PY) scripts/bench_input.py)

fuzz: $(VENV)/.dev ## damaged input for the C engine, sanitized, and for all readers; 600 s each, or SECONDS=N SEED=N
	rm -rf .cache/fuzz && mkdir -p .cache/fuzz/blocks
	$(PY) tests/fuzz_onnx_to_c.py $(or $(SECONDS),600) $(or $(SEED),1) .cache/fuzz/blocks kws/models/gsc12_tiny*.onnx
	$(CC) -g -O1 -ffp-contract=off -fsanitize=address,undefined -fno-sanitize-recover=all -I kws/c tests/fuzz_c_engine.c kws/c/kws.c kws/c/kws_detector.c -o .cache/fuzz/fuzz
	.cache/fuzz/fuzz $(or $(SECONDS),600) $(or $(SEED),1) .cache/fuzz/blocks/*
	$(PY) tests/fuzzing.py $(or $(SECONDS),600) $(or $(SEED),1)

soak: $(VENV)/.dev ## 24 hours of audio at speed: is memory flat, are results equal; options in ARGS, e.g. ARGS='--hours 2'
	$(PY) scripts/soak.py $(ARGS)

kill: $(VENV)/.dev ## SIGKILL at random moments: does the next run end as if nothing had been; ARGS='--kills 5 pack scan'
	$(PY) scripts/kill.py $(ARGS)

wheel: $(VENV)/.dev ## build this machine's wheel into dist/
	$(PY) -m build --wheel

wheels: $(VENV)/.dev ## the wheels of every platform that has a C engine, cross-compiled by ziglang
	for platform in $$($(PY) -c 'from kws.c.build import TARGETS; print(*TARGETS)'); do \
		KWS_WHEEL=$$platform $(PY) -m build --wheel --no-isolation || exit 1; done

$(VENV)/.docs: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet 'zensical>=0.0.70' 'mkdocstrings-python>=2'
	touch $@

docs: $(VENV)/.docs ## the documentation site, into site/
	$(PY) scripts/make_docs.py

release: $(VENV)/.dev ## the sdist, every wheel and the npm package into dist/, checked; nothing is uploaded
	$(PY) -m pip install --quiet 'twine>=6' 'build>=1.2' 'pip-audit>=2.7'
	$(PY) scripts/release.py $(ARGS)

clean: ## remove what was made here: .venv, runs, caches
	rm -rf $(VENV) runs multirun .cache dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
