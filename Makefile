# make demo    the main job on embedded data: train, convert, check, report
# make test    the tests, the doctests and the README's examples
# make check   lint and types, then the tests: what CI runs
# make bench   the packages that the benchmarks compare with; then python benchmarks/NAME.py
# Each one sets up .venv by itself.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
BENCH := .venv/.bench

.PHONY: demo test check lint types bench clean

demo: $(READY)
	$(BIN)/spikelet demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --doctest-modules src tests

check: lint types
	$(MAKE) test

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

bench: $(BENCH)

# neurobench, snntorch, tonic, spikingjelly, norse and sinabs ask for torchaudio, torchvision and others that have no build for every
# torch and that nothing here uses: they are installed without their dependencies.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt neurobench snntorch tonic importRosbag requests urllib3 certifi expelliarmus
	touch $@

$(BENCH): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt onnx onnxruntime loguru scipy nir nirtorch pbr
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt spikingjelly norse sinabs
	touch $@

clean:
	find src -name '*.nb[ci]' -delete
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
