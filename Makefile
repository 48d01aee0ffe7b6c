# make demo   the whole pipeline on example_data/, in a virtual environment of its own
# make test   all fast tests, in the same environment (`make test TESTS="-m slow"` runs the slow ones)
# make lint   ruff and mypy

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
	@printf '\nMade in $(DEMO)/:\n'
	@printf '  sequences/  a row a patient, by split, and the vocabulary\n'
	@printf '  features/   patients packed into windows, for TensorFlow\n'
	@printf '  model/      the training folder (tensorboard --logdir $(DEMO)/model)\n'
	@printf '  export/     a stock Hugging Face BertModel with its tokenizer\n'
	@printf '  cohort/     histories up to an index date, and whether heart failure came\n'
	@printf '  comparison/ the model fine-tuned beside logistic regression: results.md, plots\n'
	@printf 'A few hundred patients show the way, not what the model can learn.\n\n'
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

$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,onnx,spark]'
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
