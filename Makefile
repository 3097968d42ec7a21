# Everything installs into .venv; torch goes in first, from the constraints, so that nothing else can choose its build.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
EXAMPLES := examples/shapes_cp examples/updn_common examples/updn_vqa examples/updn_captioning examples/human_study \
  examples/decoy_digits
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: demo study-demo results results-vqa results-captioning results-digits results-study selection claims test fuzz lint \
  docs bench clean distclean
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
runs/worlds/light%: | $(INSTALLED)
	$(BIN)/shapes-cp --out $@ --size medium --seed $* --world light
runs/worlds/prior%: | $(INSTALLED)
	$(BIN)/shapes-cp --out $@ --size medium --seed $* --world prior
runs/worlds/strong-pairs%: | $(INSTALLED)
	$(BIN)/shapes-cp --out $@ --size medium --seed $* --world pairs --strength strong
runs/worlds/weak-pairs%: | $(INSTALLED)
	$(BIN)/shapes-cp --out $@ --size medium --seed $* --world pairs --strength weak
runs/prepared/%: | runs/worlds/% $(INSTALLED)
	$(BIN)/updn-vqa prepare --data runs/worlds/$* --out $@ --hints hat
runs/prepared/%-robust: | runs/worlds/% $(INSTALLED)
	$(BIN)/updn-captioning prepare --data runs/worlds/$* --out $@ --split robust
runs/prepared/%-standard: | runs/worlds/% runs/prepared/%-robust $(INSTALLED)
	$(BIN)/updn-captioning prepare --data runs/worlds/$* --out $@ --split karpathy --features runs/prepared/$*-robust

# The whole story on one small world, within ten minutes on two cores: runs/demo/index.html.
demo: runs/prepared/cue0
	$(BIN)/updn-vqa study demo --data $< --images runs/worlds/cue0 --out runs/demo

# A human study of two runs of the demo, with simulated answers and their report, in two minutes. To see what participants
# see: .venv/bin/human-study serve --study runs/study-demo/study
study-demo: runs/study-demo/report
runs/study-demo/study: | demo
	$(BIN)/human-study build --out $@ --data runs/prepared/cue0 --images runs/worlds/cue0 --names base hint \
	--runs runs/demo/cue0/seed0/base runs/demo/cue0/seed0/unsigned
runs/study-demo/answers: | runs/study-demo/study
	$(BIN)/human-study simulate --study runs/study-demo/study --out $@ --noisy 16 --expert 4 --left 1 --careless 1
runs/study-demo/report: | runs/study-demo/answers
	$(BIN)/human-study analyse --answers runs/study-demo/answers --study runs/study-demo/study --out $@

# The committed tables, three seeds each; can be stopped and goes on where it was. On two cores questions take about ten
# hours (three of them the Transformer), captions five. Here: FILES of a run's directory in runs/ are copied to that of
# the same name in an example's results.
results: results-vqa results-captioning
define keep
mkdir -p examples/$(1)/results/$(2)
cp $(addprefix runs/$(1)/$(2)/,$(3)) examples/$(1)/results/$(2)
endef

# Hints from the start of training and for trained networks in three worlds, worlds of another shift, other networks;
# in one world the paper's Table 1 with what came after it, and shares of hints.
VQA := runs/updn_vqa
CUE_WORLDS := runs/prepared/cue0 runs/prepared/cue1 runs/prepared/cue2
LIGHT_WORLDS := runs/prepared/light0 runs/prepared/light1 runs/prepared/light2
NETWORKS := transformer updn-bypass updn-mean updn-concat san
TABLE1 := base san gvqa attn-align adv-reg hint unsigned unsigned-exact hint-paper scr visfis permuted random \
  random-per-epoch irrelevant zero-out scr-permuted visfis-permuted base-on-hinted hint-on-hinted
SUPERVISION := base unsigned-1.5 unsigned-3 unsigned unsigned-25 unsigned-100
results-vqa: $(CUE_WORLDS) $(LIGHT_WORLDS) runs/prepared/prior0
	$(BIN)/updn-vqa study from-start --out $(VQA)/from-start --data $(CUE_WORLDS) --images runs/worlds/cue0
	$(BIN)/updn-vqa study fine-tuned --out $(VQA)/fine-tuned --data $(CUE_WORLDS) --images runs/worlds/cue0
	$(BIN)/updn-vqa study trained --out $(VQA)/trained --data $(CUE_WORLDS) --images runs/worlds/cue0
	$(BIN)/updn-vqa study light --out $(VQA)/light --data $(LIGHT_WORLDS)
	for network in $(NETWORKS); do $(BIN)/updn-vqa study $$network --out $(VQA)/$$network --data $< || exit; done
	$(BIN)/updn-vqa study prior --out $(VQA)/prior --data runs/prepared/prior0
	$(BIN)/updn-vqa study table1 --out $(VQA)/table1 --data runs/prepared/cue0 --images runs/worlds/cue0
	$(BIN)/updn-vqa study supervision --out $(VQA)/supervision --data runs/prepared/cue0
	$(BIN)/updn-vqa compare --out $(VQA)/table1/comparison $(TABLE1:%=$(VQA)/table1/cue0/seed*/%)
	$(BIN)/updn-vqa compare --out $(VQA)/supervision/comparison $(SUPERVISION:%=$(VQA)/supervision/cue0/seed*/%)
	$(call keep,updn_vqa,from-start,table.md results.json curves.png shares.png)
	$(call keep,updn_vqa,fine-tuned,table.md results.json curves.png shares.png)
	$(call keep,updn_vqa,trained,table.md results.json curves.png shares.png)
	$(call keep,updn_vqa,light,table.md results.json curves.png)
	$(call keep,updn_vqa,transformer,table.md results.json curves.png)
	$(call keep,updn_vqa,updn-bypass,table.md results.json curves.png)
	$(call keep,updn_vqa,updn-mean,table.md results.json curves.png)
	$(call keep,updn_vqa,updn-concat,table.md results.json curves.png)
	$(call keep,updn_vqa,san,table.md results.json curves.png)
	$(call keep,updn_vqa,prior,table.md results.json curves.png)
	$(call keep,updn_vqa,table1,table.md results.json curves.png)
	$(call keep,updn_vqa,table1/comparison,table.md table.csv)
	$(call keep,updn_vqa,supervision,table.md results.json curves.png shares.png)
	$(call keep,updn_vqa,supervision/comparison,table.md table.csv supervision.png)

# The same for captions: where shapes stop going together, where they hardly did, and where they go on.
CAPTIONING := runs/updn_captioning
results-captioning: $(addprefix runs/prepared/,strong-pairs0-robust weak-pairs0-robust strong-pairs0-standard)
	$(BIN)/updn-captioning study robust --out $(CAPTIONING)/strong --data runs/prepared/strong-pairs0-robust
	$(BIN)/updn-captioning study from-start --out $(CAPTIONING)/from-start --data runs/prepared/strong-pairs0-robust
	$(BIN)/updn-captioning study robust --out $(CAPTIONING)/weak --data runs/prepared/weak-pairs0-robust
	$(BIN)/updn-captioning study standard --out $(CAPTIONING)/standard --data runs/prepared/strong-pairs0-standard
	$(call keep,updn_captioning,strong,table.md results.json curves.png)
	$(call keep,updn_captioning,from-start,table.md results.json curves.png)
	$(call keep,updn_captioning,weak,table.md results.json curves.png)
	$(call keep,updn_captioning,standard,table.md results.json curves.png)

# Decoy digits, as published twice, on 20,000 of MNIST's images: MNIST=FOLDER is where its files are. The weights are
# chosen on images kept aside; then five seeds, from random weights and from a trained network. About seven hours on two
# cores, twenty minutes on a GPU that many processes share: DEVICE=cuda PROCESSES=15.
DIGITS := examples/decoy_digits
DEVICE := cpu
PROCESSES := 2
DECOYS = $(BIN)/python $(DIGITS)/decoy_digits.py --data $(MNIST) --protocol $$protocol
LONG = $(DECOYS) --images 20000 --device $(DEVICE) --processes $(PROCESSES)
CHOOSE = $(LONG) --development --out $$at-selection.jsonl --weights
MARKED := "HINT, signed" "HINT, unsigned" "HINT, unsigned, of the swatch" "HINT, unsigned, of the pixels" RRR \
  "RRR, Grad-CAM" RBR "Grad-CAM mean square"
results-digits: $(INSTALLED)
	mkdir -p runs/digits $(DIGITS)/results
	for protocol in rieger ross; do for from in "--hints 1 0.06 0.01" "--hints 0.06 --from-base"; do \
	at=runs/digits/$$protocol; case $$from in *base) at=$$at-from-base;; esac; \
	$(CHOOSE) 0.1 1 10 100 1000 10000 --rows $(MARKED) $$from && \
	$(CHOOSE) 0.0001 0.001 0.01 0.1 1 10 --rows "HINT, the paper's loss" $$from && \
	$(LONG) --rows all $$from --seeds 0 1 2 3 4 --chosen-in $$at-selection.jsonl --out $$at.jsonl || exit; done; done
	protocol=rieger; OMP_NUM_THREADS=1 $(DECOYS) --rows all --epochs 1 --out runs/digits/steps.jsonl  # alone: for times
	cp runs/digits/*.jsonl $(DIGITS)/results
	$(BIN)/python $(DIGITS)/decoy_report.py $(DIGITS)/results

# What the human study's server withstands, on this machine (about ten minutes, and better with nothing else at work), and
# how often its intervals are right.
TORTURE := $(BIN)/python examples/human_study/tests/torture
STUDY_RESULTS := examples/human_study/results
runs/blinding: | runs/prepared/cue0 demo
	$(BIN)/human-study build --out $@ --data runs/prepared/cue0 --images runs/worlds/cue0 --names base hint \
	--runs runs/demo/cue0/seed0/base runs/demo/cue0/seed0/unsigned --items 200 --practice 0 --checks 0 \
	--raters-per-item 2 --items-per-participant 20 --picture-size 128
results-study: runs/blinding | $(INSTALLED_DEV)
	$(TORTURE)_kill.py --out $(STUDY_RESULTS)/kill.json
	$(TORTURE)_load.py --out $(STUDY_RESULTS)/load.json
	$(TORTURE)_security.py --out $(STUDY_RESULTS)/security.json
	$(TORTURE)_blind.py runs/blinding --out $(STUDY_RESULTS)/blinding.json
	$(BIN)/python -m human_study.analysis.coverage --out $(STUDY_RESULTS)/coverage.json

# How the presets' options were chosen, on the development splits alone.
selection: runs/prepared/cue0 runs/prepared/cue1 runs/prepared/strong-pairs0-robust
	$(BIN)/updn-vqa study selection --data $< --out $(VQA)/selection
	$(BIN)/updn-vqa study selection-unsigned --data $< $(word 2,$^) --out $(VQA)/selection-unsigned
	for network in trained trained-mean trained-transformer; do \
	$(BIN)/updn-vqa study selection-$$network --data $< --out $(VQA)/selection-$$network || exit; done
	for study in selection selection-unsigned; do \
	$(BIN)/updn-captioning study $$study --data $(word 3,$^) --out $(CAPTIONING)/$$study || exit; done
	$(call keep,updn_vqa,selection,table.md results.json)
	$(call keep,updn_vqa,selection-unsigned,table.md results.json)
	$(call keep,updn_vqa,selection-trained,table.md results.json)
	$(call keep,updn_vqa,selection-trained-mean,table.md results.json)
	$(call keep,updn_vqa,selection-trained-transformer,table.md results.json)
	$(call keep,updn_captioning,selection,table.md results.json)
	$(call keep,updn_captioning,selection-unsigned,table.md results.json)

# Which claims of the paper and of its critics hold in all results that are committed, and what each network does; seconds.
claims: $(INSTALLED)
	$(BIN)/python -m updn_common.reports.claims examples docs/claims
	$(BIN)/python -m updn_vqa.studies.network_table examples/updn_vqa/results docs/claims/networks.md

# Damaged files for every reader, until half an hour is over.
fuzz: $(INSTALLED_DEV)
	$(BIN)/python examples/fuzz.py --mutants 50000

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
	$(BIN)/python benchmarks/feeding.py
	$(BIN)/python benchmarks/updn_step.py
	$(BIN)/python benchmarks/captioning_step.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/training_step.py --compiled --models updn

clean:
	rm -rf docs/_build docs/api/generated dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Also what takes long to make again: the environment, and every world and run.
distclean: clean
	rm -rf $(VENV) runs
