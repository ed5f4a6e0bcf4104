# make demo   set up everything and render a small set      make test   set up everything and run the tests
# make lint   ruff and mypy      make validate   long comparisons (an hour)      make gallery   redraw gallery/
PYTHON ?=
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check -q -c constraints.txt

.PHONY: browser demo test lint validate gallery setup setup-dev llvm clean
.DEFAULT_GOAL := demo

demo: setup llvm
	@$(VENV)/bin/synthskin render --preset fst6 --n 12 --out out/fst6-s0

test: setup-dev llvm browser
	@$(PY) -m pytest -q

lint: setup-dev
	@$(PY) -m ruff check .
	@$(PY) -m mypy

validate: setup-dev llvm
	@$(PY) -m pytest -q -m validate
	@for script in benchmarks/validate_*.py; do \
	    if [ -f "$$script" ]; then echo "== $$script"; $(PY) "$$script" || exit 1; fi; done

gallery: setup llvm
	@$(PY) scripts/gallery.py

# the report's tests open it in Chromium; where it cannot be had they are skipped and say so
browser:
	@sh scripts/ensure_chromium.sh

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

llvm: setup
	@sh scripts/ensure_llvm.sh $(PY)

$(PY):
	@sh scripts/make_venv.sh $(PYTHON)

$(VENV)/.installed: pyproject.toml constraints.txt | $(PY)
	@echo "installing synthskin into $(VENV) (a few hundred MB the first time)"
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist out .pytest_cache .mypy_cache .ruff_cache .hypothesis
