"""The model card of an export folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from transformers import BertForPreTraining

from ehr_bert.codes.systems import system_of
from ehr_bert.export.heads import heads_text
from ehr_bert.export.history_tokenizer import HistoryTokenizer
from ehr_bert.export.parity import Parity
from ehr_bert.export.rare_codes import KeptTokens
from ehr_bert.export.training_facts import TrainingFacts
from ehr_bert.objectives import default_objectives

STAY_READS = {
    "cls": "BERT's pooler at the first position, as `seq_relationship_logits` of `BertForPreTraining`",
    "first": "BERT's pooler at the first code: pass that position through `bert.pooler` and "
    "`cls.seq_relationship`",
    "sum": "the sum of the last hidden states over real positions: pass it through `cls.seq_relationship`",
    "mean": "the mean of the last hidden states over real positions: pass it through `cls.seq_relationship`",
}
"""Input of the prolonged-stay head, for each `stay_pooling`."""

ONNX = """
`model.onnx` is the same model for ONNX Runtime. Its inputs are those of the tokenizer, in int64. Its outputs
are `prediction_logits` and `seq_relationship_logits`, the latter from the input of the prolonged-stay head.
"""


def model_card(
    model: BertForPreTraining,
    tokenizer: HistoryTokenizer,
    codes: Sequence[str],
    kept: KeptTokens,
    parity: Parity,
    facts: TrainingFacts,
    onnx: bool,
    heads: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """Return the card as Markdown.

    Args:
        model: The exported model.
        tokenizer: Its tokenizer.
        codes: The codes of its vocabulary.
        kept: Kept and omitted tokens.
        parity: Largest differences from the trained model.
        facts: How the model was trained.
        onnx: Whether the folder contains `model.onnx`.
        heads: Number of parameters of each head that stock BERT does not have, by objective.
    """
    config = model.config
    history = " | ".join([*codes[:2], tokenizer.mask_token])
    sections = [_data(codes, facts), _training(facts), _ancestry(facts), _evaluation(facts.figures)]
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
tags: [ehr, bert]
---

# BERT of patients

A BERT model pretrained on diagnosis histories. It predicts masked codes and prolonged hospital stays.

| | |
|---|---|
| parameters | {model.num_parameters():,} |
| vocabulary | {config.vocab_size:,} tokens |
| hidden size | {config.hidden_size} |
| layers, heads | {config.num_hidden_layers}, {config.num_attention_heads} |
| longest history | {config.max_position_embeddings} tokens |
| distinct visits | {config.type_vocab_size - 1} |

## Use

A history is text, with the oldest visit first. Codes are separated by spaces, visits by `|`.

```python
from transformers import AutoModel, AutoTokenizer, pipeline

fill_mask = pipeline("fill-mask", model="path/to/this/folder", trust_remote_code=True)
fill_mask("{history}")

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder", trust_remote_code=True)
model = AutoModel.from_pretrained("path/to/this/folder")
model(**tokenizer("{history}", truncation=True, return_tensors="pt"))
```

The model is stock BERT and needs no additional code. Its token types are visit ids, which stock tokenizers do
not support, so `trust_remote_code=True` runs `history_tokenizer.py` from this folder.

The prolonged-stay head reads {STAY_READS[config.stay_pooling]}.
{ONNX if onnx else ""}{heads_text(heads)}
Intended use: fine-tuning, in research on patients similar to the training patients, with records in the
same code systems. Out of scope: decisions about individual patients, and identification of patients.

{"".join(sections)}## Limits

The model reflects the coding practice and the biases of its training records. Its weights may reveal
information about the training patients, so the rules for sharing their records apply to the model.

{_rare_codes(kept)}
A code outside the vocabulary is read as the nearest heading above it in the vocabulary, else as `[UNK]`.

{parity}.
"""


def _data(codes: Sequence[str], facts: TrainingFacts) -> str:
    systems = Counter(map(system_of, codes))
    by_system = ", ".join(f"{count:,} of {system}" for system, count in systems.most_common())
    rows = [
        f"| {info.get('corpus', f'examples {number}')} | {info['patients']:,} | {info['examples']:,} | "
        f"{info['max_seq_length']:,} | {info['real_tokens']:,} |\n"
        for number, info in enumerate(facts.examples, 1)
    ]
    table = (
        f"""
| trained on | patients | windows | longest window | tokens |
|---|--:|--:|--:|--:|
{"".join(rows)}
A patient whose history needs several windows counts once per window.
"""
        if rows
        else ""
    )
    return f"""## Data

The vocabulary has {len(codes):,} codes: {by_system}.
{table}
"""


def _training(facts: TrainingFacts) -> str:
    if not facts.recipe:
        return ""
    return f"""## Training

Recipe of EHR-BERT:

```toml
{facts.recipe.strip()}
```

"""


def _ancestry(facts: TrainingFacts) -> str:
    if not facts.ancestry.generations:
        return ""
    return f"""## Ancestry

Training runs, newest first. Weights, vocabularies, recipes and corpora are identified by fingerprints.

```
{facts.ancestry}
```

"""


def _evaluation(figures: Mapping[str, float]) -> str:
    rows = [
        f"| {objective.title}: {metric.title} | {figures[key]:.4f} | "
        f"{_shown(figures.get(f'{objective.baseline_prefix}_{metric.key}'))} |\n"
        for objective in default_objectives()
        for metric in objective.shown_metrics
        if (key := f"{objective.prefix}_{metric.key}") in figures
    ]
    if not rows:
        return ""
    return f"""## Evaluation

On {figures["patients"]:,} patients, with all codes. The baseline predicts the training frequency of each code
and the prevalence of prolonged stays. Losses are in nats.

| | model | baseline |
|---|--:|--:|
{"".join(rows)}
"""


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _rare_codes(kept: KeptTokens) -> str:
    if kept.min_patients is None:
        return "The vocabulary had no counts. Its codes may include codes of few patients."
    if kept.min_patients == 0:
        return "All codes were kept, including codes of few patients."
    if kept.omitted == 0:
        return f"Each code occurs in {kept.min_patients} patients or more."
    return (
        f"Codes of fewer than {kept.min_patients} patients of the training split were removed from the "
        f"vocabulary and the weights:\n{kept.omitted:,}, of which {kept.to_heading:,} are read as a heading."
    )
