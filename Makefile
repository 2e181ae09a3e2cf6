# Everything a newcomer needs; python3.11 and make are enough.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo birds train-scratch test lint docs figures benchmark tensorboard clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(STAMP)  ## make the environment in .venv (done by every other target when it is out of date)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(STAMP)  ## score CAMs and RefineCAM on the shipped ResNet18, then fine-tune it (2 to 5 minutes on 2 cores)
	$(RUN) evaluate.py --config configs/evaluate/shapes.yaml --data.test_size 24 --data.batch_size 8 --output runs/demo/evaluation
	$(RUN) train.py --config configs/train/demo.yaml
	@echo "Figure:      runs/demo/evaluation/maps.png"
	@echo "TensorBoard: $(VENV)/bin/tensorboard --logdir runs/demo"

birds: $(STAMP)  ## draw birds, train a ResNet18 on them, compute FunnyBirds' scores (about half an hour on 2 cores)
	test -d data/birds || $(RUN) -m refinecam.data.funnybirds data/birds --classes 10 --train-per-class 1000 --test-per-class 10 --workers 2
	$(RUN) train.py --config configs/train/birds-scratch.yaml
	$(RUN) evaluate.py --config configs/evaluate/funnybirds.yaml --data.folder data/birds --model.checkpoint checkpoints/birds/best.ckpt \
		--output runs/birds/evaluation
	@echo "Figure:      runs/birds/evaluation/maps.png"

train-scratch: $(STAMP)  ## train a ResNet18 from nothing, on larger shapes at 128 px (about 8 minutes on 2 cores)
	$(RUN) train.py --config configs/train/demo-scratch.yaml

test: $(STAMP)  ## lint, type check and the tests (about a quarter of an hour on 2 cores)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	@# Processes of one thread each, as the tests' networks are too small to share; of up to 4 GB each, so four at most.
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --maxprocesses 4 --dist worksteal

lint: $(STAMP)  ## format and fix what can be fixed
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

docs: $(STAMP)  ## build the documentation into site/
	$(RUN) -m sphinx -b html -W --keep-going -q docs site

figures: $(STAMP)  ## draw the published results' figures and tables again (a minute)
	$(RUN) -m refinecam study verdict --results results --no-evaluate --output runs/figures

benchmark: $(STAMP)  ## print how fast data, maps and scores are
	$(RUN) -m tests.benchmarks.data
	$(RUN) -m tests.benchmarks.attribution
	$(RUN) -m tests.benchmarks.imputation
	$(RUN) -m tests.benchmarks.scores
	$(RUN) -m tests.benchmarks.training
	$(RUN) -m tests.benchmarks.evaluation

tensorboard: $(STAMP)  ## look at the demo's curves and pictures
	$(VENV)/bin/tensorboard --logdir runs/demo

clean:  ## remove the environment and caches; results and data stay
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .benchmarks
