# Everything installs into .venv; torch goes in first, from the constraints, so that nothing else can choose its build.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
EXAMPLES := examples/shapes_cp examples/updn_common examples/updn_vqa examples/updn_captioning
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: demo results selection test lint docs bench clean distclean
.SECONDARY:

$(INSTALLED): constraints.txt pyproject.toml $(EXAMPLES:%=%/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(PIP) pip
	$(PIP) torch
	$(PIP) --editable . $(EXAMPLES:%=--editable %)
	touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) --group dev
	touch $@

# Small worlds (about a minute each) and what training reads.
runs/worlds/cue%: | $(INSTALLED)
	$(BIN)/shapes-cp --out $@ --size medium --seed $* --world cue
runs/worlds/prior%: | $(INSTALLED)
	$(BIN)/shapes-cp --out $@ --size medium --seed $* --world prior
runs/prepared/%: | runs/worlds/% $(INSTALLED)
	$(BIN)/updn-vqa prepare --data runs/worlds/$* --out $@ --hints hat

# The whole story on one small world, within ten minutes on two cores: runs/demo/index.html.
demo: runs/prepared/cue0
	$(BIN)/updn-vqa study demo --data $< --images runs/worlds/cue0 --out runs/demo

# The committed tables, three seeds each: HINT and its controls in three worlds, and in one the paper's Table 1 with
# what came after it, shares of hints, a network with a bypass. Takes hours; can be stopped and goes on where it was.
CUE_WORLDS := cue0 cue1 cue2
RESULTS := examples/updn_vqa/results
define keep
mkdir -p $(RESULTS)/$(1)
cp $(addprefix runs/results/$(1)/,$(2)) $(RESULTS)/$(1)
endef
TABLE1 := base san gvqa attn-align adv-reg hint hint-paper scr visfis permuted random random-per-epoch irrelevant \
  zero-out scr-permuted visfis-permuted base-on-hinted hint-on-hinted
SUPERVISION := base hint-1.5 hint-3 hint hint-25 hint-100
results: $(CUE_WORLDS:%=runs/prepared/%) runs/prepared/prior0
	$(BIN)/updn-vqa study results --out runs/results/cue \
	  --data $(CUE_WORLDS:%=runs/prepared/%) --images runs/worlds/cue0
	$(BIN)/updn-vqa study prior --out runs/results/prior --data runs/prepared/prior0
	$(BIN)/updn-vqa study table1 --out runs/results/table1 --data runs/prepared/cue0 --images runs/worlds/cue0
	$(BIN)/updn-vqa study supervision --out runs/results/supervision --data runs/prepared/cue0
	$(BIN)/updn-vqa study bypass --out runs/results/bypass --data runs/prepared/cue0
	$(BIN)/updn-vqa compare --out runs/results/table1/comparison $(TABLE1:%=runs/results/table1/cue0/seed*/%)
	$(BIN)/updn-vqa compare --out runs/results/supervision/comparison \
	  $(SUPERVISION:%=runs/results/supervision/cue0/seed*/%)
	$(call keep,cue,table.md results.json curves.png shares.png)
	$(call keep,prior,table.md results.json curves.png)
	$(call keep,table1,table.md results.json curves.png)
	$(call keep,table1/comparison,table.md table.csv)
	$(call keep,supervision,table.md results.json curves.png shares.png)
	$(call keep,supervision/comparison,table.md table.csv supervision.png)
	$(call keep,bypass,table.md results.json curves.png)

# How the presets' options were chosen, on the development split alone.
selection: runs/prepared/cue0
	$(BIN)/updn-vqa study selection --data $< --out runs/selection
	mkdir -p $(RESULTS)/selection
	cp $(addprefix runs/selection/,table.md results.json) $(RESULTS)/selection

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(INSTALLED_DEV)
	$(BIN)/sphinx-build -n -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/sphinx-build -n -W -q -b doctest docs docs/_build/doctest

bench: $(INSTALLED_DEV)
	$(BIN)/python benchmarks/ranking_loss.py
	$(BIN)/python benchmarks/human_importance.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/training_step.py --compiled --models updn

clean:
	rm -rf docs/_build docs/api/generated dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Also what takes long to make again: the environment, and every world and run.
distclean: clean
	rm -rf $(VENV) runs
