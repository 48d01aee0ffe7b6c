"""The model card: what a person reads first in an export folder."""

from collections.abc import Sequence

from transformers import BertForPreTraining

from ehr_bert.export.history_tokenizer import HistoryTokenizer
from ehr_bert.export.parity import Parity

STAY_READS = {
    "cls": "BERT's pooler at the first position: `BertForPreTraining` gives its `seq_relationship_logits`",
    "first": "BERT's pooler at the first code: pass that position through `bert.pooler` and "
    "`cls.seq_relationship`",
    "sum": "the sum of the last hidden states over real positions: pass it through `cls.seq_relationship`",
    "mean": "the mean of the last hidden states over real positions: pass it through `cls.seq_relationship`",
}
"""Where the prolonged-stay head looks, for each `stay_pooling`."""


def model_card(
    model: BertForPreTraining,
    tokenizer: HistoryTokenizer,
    codes: Sequence[str],
    parity: Parity,
    results: str | None,
) -> str:
    """The card, as Markdown.

    Args:
        model: The exported model.
        tokenizer: Its tokenizer.
        codes: Some codes that it knows, for an example.
        parity: How equal it is to the model that was trained.
        results: The text of the training's `eval_results.txt`, if there is one.
    """
    config = model.config
    history = " | ".join([*codes, tokenizer.mask_token])
    evaluation = f"\n## Evaluation\n\n```\n{results.strip()}\n```\n" if results else ""
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
{evaluation}
## Limits

It knows the codes and habits of the records that it was trained on, and carries their biases elsewhere. It is
for research, not for decisions about a patient. What it learned may reveal something of those patients: share
it as their records may be shared.

{parity}.
"""
