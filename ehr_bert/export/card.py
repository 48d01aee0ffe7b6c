"""The model card: what a person reads first in an export folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from transformers import BertForPreTraining

from ehr_bert.codes.systems import system_of
from ehr_bert.export.account import Account
from ehr_bert.export.heads import heads_text
from ehr_bert.export.history_tokenizer import HistoryTokenizer
from ehr_bert.export.parity import Parity
from ehr_bert.export.rare_codes import KeptTokens
from ehr_bert.objectives import default_objectives

STAY_READS = {
    "cls": "BERT's pooler at the first position: `BertForPreTraining` gives its `seq_relationship_logits`",
    "first": "BERT's pooler at the first code: pass that position through `bert.pooler` and "
    "`cls.seq_relationship`",
    "sum": "the sum of the last hidden states over real positions: pass it through `cls.seq_relationship`",
    "mean": "the mean of the last hidden states over real positions: pass it through `cls.seq_relationship`",
}
"""Where the prolonged-stay head looks, for each `stay_pooling`."""

ONNX = """
`model.onnx` is the same model for ONNX Runtime. It takes what the tokenizer gives, in int64, and puts out
`prediction_logits` and `seq_relationship_logits`; the latter from where the prolonged-stay head reads.
"""


def model_card(
    model: BertForPreTraining,
    tokenizer: HistoryTokenizer,
    codes: Sequence[str],
    kept: KeptTokens,
    parity: Parity,
    account: Account,
    onnx: bool,
    heads: Mapping[str, int] = MappingProxyType({}),
) -> str:
    """The card, as Markdown.

    Args:
        model: The exported model.
        tokenizer: Its tokenizer.
        codes: The codes that it knows.
        kept: What became of rare codes.
        parity: How equal it is to the model that was trained.
        account: How that was trained.
        heads: Parameters of heads that stock BERT does not have, by objective.
        onnx: Whether a `model.onnx` lies beside it.
    """
    config = model.config
    history = " | ".join([*codes[:2], tokenizer.mask_token])
    sections = [_data(codes, account), _training(account), _ancestry(account), _evaluation(account.figures)]
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
tags: [ehr, bert]
---

# BERT of patients

A BERT pretrained on coded diagnosis histories, to complete hidden codes and to tell prolonged hospital stays.

| | |
|---|---|
| parameters | {model.num_parameters():,} |
| vocabulary | {config.vocab_size:,} tokens |
| hidden width | {config.hidden_size} |
| layers, heads | {config.num_hidden_layers}, {config.num_attention_heads} |
| longest history | {config.max_position_embeddings} tokens |
| visits told apart | {config.type_vocab_size - 1} |

## Use

A history is text: codes apart by spaces, visits by `|`, oldest first.

```python
from transformers import AutoModel, AutoTokenizer, pipeline

fill_mask = pipeline("fill-mask", model="path/to/this/folder", trust_remote_code=True)
fill_mask("{history}")

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder", trust_remote_code=True)
model = AutoModel.from_pretrained("path/to/this/folder")
model(**tokenizer("{history}", truncation=True, return_tensors="pt"))
```

The model is stock BERT and runs no code of its own. Its token types are visit ids, which no stock tokenizer
makes: `trust_remote_code=True` runs `history_tokenizer.py` from this folder. The prolonged-stay head reads
{STAY_READS[config.stay_pooling]}.
{ONNX if onnx else ""}{heads_text(heads)}
It is meant to be fine-tuned for research on patients like those it was trained on, whose records are coded in
the same systems. It is not meant for decisions about a patient, nor to tell who a patient is.

{"".join(sections)}## Limits

It knows the codes and habits of the records that it was trained on, and carries their biases elsewhere. What
it learned may reveal something of those patients: share it as their records may be shared.

{_rare_codes(kept)}
A code that the vocabulary lacks is read as the next heading above it that it has, else as `[UNK]`.

{parity}.
"""


def _data(codes: Sequence[str], account: Account) -> str:
    systems = Counter(map(system_of, codes))
    told = ", ".join(f"{count:,} of {system}" for system, count in systems.most_common())
    rows = [
        f"| {each.get('corpus', f'examples {number}')} | {each['patients']:,} | {each['examples']:,} | "
        f"{each['max_seq_length']:,} | {each['real_tokens']:,} |\n"
        for number, each in enumerate(account.examples, 1)
    ]
    table = (
        f"""
| trained on | patients | windows | longest window | tokens |
|---|--:|--:|--:|--:|
{"".join(rows)}
A patient who is longer than a window counts once for each.
"""
        if rows
        else ""
    )
    return f"""## Data

The vocabulary has {len(codes):,} codes: {told}.
{table}
"""


def _training(account: Account) -> str:
    if not account.recipe:
        return ""
    return f"""## Training

By this recipe of EHR-BERT:

```toml
{account.recipe.strip()}
```

"""


def _ancestry(account: Account) -> str:
    if not account.ancestry.generations:
        return ""
    return f"""## Ancestry

The newest first; weights, vocabularies, recipes and corpora by their fingerprints.

```
{account.ancestry}
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

On {figures["patients"]:,} patients, with all codes, beside a guess that knows how frequent each code and a
prolonged stay are, and nothing of the patient.

| | model | guess |
|---|--:|--:|
{"".join(rows)}
"""


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _rare_codes(kept: KeptTokens) -> str:
    if kept.min_patients is None:
        return "The vocabulary came without counts: codes of few patients may be among its codes."
    if kept.min_patients == 0:
        return "All codes were kept, however few patients had them."
    if kept.left_out == 0:
        return f"All codes are of {kept.min_patients} patients or more."
    return (
        f"Codes of fewer than {kept.min_patients} patients of the training split left the vocabulary, and "
        f"their rows the weights:\n{kept.left_out:,}, of which {kept.to_heading:,} have a heading in it."
    )
