# make demo   the whole pipeline on example_data/, in a separate virtual environment
# make test   all fast tests, in the same environment (`make test TESTS="-m slow"` runs the slow ones)
# make lint   ruff, mypy and the check of discouraged words

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo_output
TESTS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
EHR_BERT := $(BIN)/ehr-bert

.PHONY: demo test lint clean

demo: $(INSTALLED)
	rm -rf $(DEMO)
	$(EHR_BERT) preprocess example_data/data_file.tsv $(DEMO)/sequences
	$(EHR_BERT) features $(DEMO)/sequences $(DEMO)/features
	$(EHR_BERT) pretrain --features $(DEMO)/features --output $(DEMO)/model \
		--steps 150 --batch-patients 32 --learning-rate 1e-3
	$(EHR_BERT) convert $(DEMO)/model $(DEMO)/export
	$(EHR_BERT) cohort --labels example_data/cohort.tsv example_data/data_file.tsv $(DEMO)/cohort
	@printf '\nWritten to $(DEMO)/:\n'
	@printf '  sequences/  one row per patient, by split, and the vocabulary\n'
	@printf '  features/   TFRecord examples, with patients packed into windows\n'
	@printf '  model/      the training folder (tensorboard --logdir $(DEMO)/model)\n'
	@printf '  export/     a stock Hugging Face BertModel with its tokenizer\n'
	@printf '  cohort/     histories before an index date, labelled with later heart failure\n'
	@printf '  comparison/ the fine-tuned model compared with logistic regression: results.md, plots\n'
	@printf 'The example data has a few hundred patients: too few for meaningful results.\n\n'
	$(EHR_BERT) fill-mask $(DEMO)/export --titles example_data/codes.tsv \
		'ICD10_E66.9 ICD10_I10 | [MASK] ICD10_E78.5 ICD10_I10'
	$(EHR_BERT) finetune --model $(DEMO)/export --cohort $(DEMO)/cohort --output $(DEMO)/comparison \
		--models logistic_regression pretrained_mean --train-sizes 100,all \
		--settings example_data/finetune.toml

test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses auto $(TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tests/style/check_prose.py

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,onnx,spark]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
