# Everything here sets up what it needs: Python 3.11 or later, make and git are enough.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
WORKERS ?= 2

.PHONY: help demo test test-slow lint listings notebooks docs format bench bench-learning clean

help:
	@echo "make demo       train PPO on CartPole, draw its learning curve and film it"
	@echo "make test       the test suite (6 to 16 minutes on two cores)"
	@echo "make test-slow  the long learning runs"
	@echo "make lint       ruff and mypy        make format   ruff's formatter"
	@echo "make listings   write anew what is generated from the code: tables of algorithms, __init__.pyi"
	@echo "make notebooks  run the notebooks in examples/notebooks and keep what they show"
	@echo "make docs       the documentation as pages, into site/"
	@echo "make bench      speed beside Stable-Baselines3 and SBX, and what steps cost (up to an hour)"
	@echo "make bench-learning  what each algorithm learns, beside published scores (the quick suite; 20 minutes or more)"

$(BIN)/activate:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: $(BIN)/activate pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(BIN)/activate pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test,lint]"
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@n=1; while [ -e runs/demo_$$n ]; do n=$$((n + 1)); done; \
	$(BIN)/thorndike train ppo CartPole-v1 --out runs/demo_$$n && \
	$(BIN)/thorndike evaluate runs/demo_$$n && \
	echo "learning curve: $$($(BIN)/thorndike plot runs/demo_$$n)" && \
	echo "animation:      $$($(BIN)/thorndike watch runs/demo_$$n)" && \
	echo "to go on:       . $(BIN)/activate, then thorndike --help"

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q

test-slow: $(VENV)/.test
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[box2d,playground,docs]"
	$(BIN)/python -m pytest -m slow -q -s

$(VENV)/.docs: $(BIN)/activate pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	@touch $@ $(VENV)/.demo

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html; its search needs a server: $(BIN)/python -m http.server -d site"

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

listings: $(VENV)/.test
	$(BIN)/python tools/listings.py

notebooks: $(VENV)/.test
	$(BIN)/python tools/notebooks.py

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv-bench/.ready: benchmarks/requirements-sb3.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --upgrade pip
	.venv-bench/bin/python -m pip install --quiet torch==2.13.0
	.venv-bench/bin/python -m pip install --quiet -r benchmarks/requirements-sb3.txt
	@touch $@

bench: $(VENV)/.test .venv-bench/.ready
	$(BIN)/python benchmarks/speed.py --peers .venv-bench/bin/python
	$(BIN)/python benchmarks/update.py
	$(BIN)/python benchmarks/selfplay.py
	$(BIN)/python benchmarks/scaling.py

bench-learning: $(VENV)/.test
	$(BIN)/thorndike bench learning --suite quick --workers $(WORKERS)

clean:
	rm -rf $(VENV) .venv-bench runs site
