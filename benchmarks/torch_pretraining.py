"""Measure the time of updates of pretraining in PyTorch, in a stock and in tuned implementations.

    python benchmarks/torch_pretraining.py tuned SEQUENCES --precision bfloat16

`stock`: Transformers' `BertForPreTraining`, as its Trainer runs it with labels: 8 patients per micro-batch,
    grouped by length and padded to the longest. The head reads all positions.
`tuned`: the same model. The encoder reads groups of 16 patients one after the other, and a compiled head
    the masked positions of all groups at once, so that gradients are computed once per update.
`compiled`: the same, with the encoder compiled too.

SEQUENCES is a folder of `ehr-bert preprocess`. All implementations use the patients, windows, `[CLS]`,
masks and labels of this project. Prints JSON: the seconds and the real tokens of each measured update, and
the peak memory of the process.

Shapes: B patients of a group, T its positions, M masked positions, H hidden size, V vocabulary.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch._inductor.config
from torch.nn.functional import cross_entropy, embedding, linear
from transformers import BertConfig, BertForPreTraining

from ehr_bert.examples.masking import Masking
from ehr_bert.examples.windows import LongPatients, Windows, cut
from ehr_bert.model.config import ModelConfig
from ehr_bert.ragged import spans, starts_of
from ehr_bert.schemas import PROLONGED_STAY_DAYS, SpecialToken, Split
from ehr_bert.vocabulary import Vocabulary

MASKED_SHARE = 0.15
BLOCK_UPDATES = 50
"""Number of updates whose patients are sorted by length together, as in the Trainer."""

NOT_MASKED = -100
"""Label of positions that are not masked."""

TUNED_BACKWARD_PATIENTS = 256
"""Patients whose gradients `tuned` computes at once, with about 5 GB of memory."""

Tensors = dict[str, torch.Tensor]


class Patients:
    """The training split of a folder of sequences, in groups of similar length."""

    def __init__(self, sequences: Path, config: ModelConfig, seed: int = 0) -> None:
        vocabulary = Vocabulary.read(sequences / "vocabulary.tsv")
        columns = ["token_ids", "visit_ids", "los_days"]
        table = pq.read_table(sequences / "sequences" / Split.TRAIN, columns=columns).combine_chunks()
        windows, _ = cut(table.to_batches()[0], config.max_position_embeddings - 1, LongPatients.SPLIT, False)
        self.all = windows.with_cls(vocabulary.id_of(SpecialToken.CLS))
        self.starts = starts_of(self.all.lengths)
        self.masking = Masking.of(
            vocabulary,
            vocabulary.id_of(SpecialToken.MASK),
            vocabulary.code_ids,
            MASKED_SHARE,
            config.max_position_embeddings,
        )
        self.last_visit = config.type_vocab_size - 1
        self.generator = np.random.default_rng(seed)

    def updates(self, patients: int, group: int, multiple: int) -> Iterator[list[Tensors]]:
        """Yield the groups of each update, without end.

        Patients of many updates are sorted by length and divided into as many strata as an update has
        groups; an update takes one group of each, so that all updates are alike.

        Args:
            patients: Patients per update.
            group: Patients per group.
            multiple: Groups are padded to a multiple of this length.
        """
        strata, rest = divmod(patients, group)
        block = min(BLOCK_UPDATES, len(self.all.lengths) // patients)
        if rest or not block:
            raise SystemExit(
                f"{patients} patients per update: choose a multiple of {group}, at most all patients"
            )
        while True:
            drawn = self.generator.permutation(len(self.all.lengths))[: block * patients]
            drawn = drawn[np.argsort(self.all.lengths[drawn], kind="stable")].reshape(strata, block, group)
            order = self.generator.permuted(np.tile(np.arange(block), (strata, 1)), axis=1)
            for update in order.T:
                yield [self._group(chosen, multiple) for chosen in drawn[np.arange(strata), update]]

    def _group(self, chosen: np.ndarray, multiple: int) -> Tensors:
        """Mask patients, and pad them to a common length."""
        lengths, stays = self.all.lengths[chosen], self.all.longest_stays[chosen]
        places = spans(self.starts[chosen], lengths)  # [P]
        tokens, visits = self.all.tokens[places], np.minimum(self.all.visits[places], self.last_visit)
        windows = Windows(tokens, visits, lengths, stays, self.all.last_visits[chosen])
        masked = self.masking.mask(windows, self.generator)
        labels = np.full_like(tokens, NOT_MASKED)
        labels[masked.positions] = tokens[masked.positions]
        longest = -(-lengths.max() // multiple) * multiple
        real = np.arange(longest) < lengths[:, None]  # [B, T]

        def padded(values: np.ndarray, padding: int) -> torch.Tensor:
            filled = np.full(real.shape, padding, np.int64)
            filled[real] = values
            return torch.from_numpy(filled)

        return {
            "input_ids": padded(masked.inputs, 0),
            "token_type_ids": padded(visits, 0),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
            "labels": padded(labels, NOT_MASKED),
            "next_sentence_label": torch.from_numpy((stays > PROLONGED_STAY_DAYS).astype(np.int64)),
        }


def new_model(config: ModelConfig) -> BertForPreTraining:
    """Return the model in the shape of this project, in training mode."""
    shape = config.to_dict()
    shape.pop("stay_pooling")
    return BertForPreTraining(BertConfig(**shape, attn_implementation="sdpa")).train()


Backward = Callable[[list[Tensors]], None]
"""Computes and adds the gradients of an update's loss."""


def stock(model: BertForPreTraining, precise: Callable[[], AbstractContextManager]) -> Backward:
    """Return the loss of the Trainer: the mean of the losses of micro-batches."""

    def backward(groups: list[Tensors]) -> None:
        for group in groups:
            with precise():
                loss = model(**group).loss
            (loss / len(groups)).backward()

    return backward


def tuned(model: BertForPreTraining, precise: Callable[[], AbstractContextManager]) -> Backward:
    """Return a loss with as few positions and passes over the vocabulary table as padding allows."""
    table = model.bert.embeddings.word_embeddings.weight  # [V, H]
    heads = model.cls

    @torch.compile(dynamic=True)
    def masked_codes(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the sum of the losses for hidden states `[M, H]` and labels `[M]`."""
        logits = linear(heads.predictions.transform(hidden), table, heads.predictions.bias)  # [M, V]
        return cross_entropy(logits.float(), labels, reduction="sum")

    def backward(groups: list[Tensors]) -> None:
        masked_total = sum(int((group["labels"] != NOT_MASKED).sum()) for group in groups)
        patients_total = sum(len(group["labels"]) for group in groups)
        parts = -(-patients_total // TUNED_BACKWARD_PATIENTS)
        for part in range(parts):
            with precise():
                masked_loss, stay_loss = losses(groups[part::parts])
            (masked_loss / masked_total + stay_loss / patients_total).backward()

    def losses(groups: list[Tensors]) -> tuple[torch.Tensor, torch.Tensor]:
        # One lookup for all groups, because each gradient would be as large as the table.
        flat = embedding(torch.cat([group["input_ids"].flatten() for group in groups]), table)  # [P, H]
        embedded = flat.split([group["input_ids"].numel() for group in groups])
        hidden, labels, pooled = [], [], []
        for group, vectors in zip(groups, embedded, strict=True):
            encoded = model.bert(
                inputs_embeds=vectors.view(*group["input_ids"].shape, -1),  # [B, T, H]
                token_type_ids=group["token_type_ids"],
                attention_mask=group["attention_mask"].bool()[:, None, None, :],
            )
            is_masked = group["labels"] != NOT_MASKED  # [B, T]
            hidden.append(encoded.last_hidden_state[is_masked])
            labels.append(group["labels"][is_masked])
            pooled.append(encoded.pooler_output)
        stay_logits = heads.seq_relationship(torch.cat(pooled))  # [S, 2]
        prolonged = torch.cat([group["next_sentence_label"] for group in groups])
        return (
            masked_codes(torch.cat(hidden), torch.cat(labels)),
            cross_entropy(stay_logits.float(), prolonged, reduction="sum"),
        )

    return backward


def compiled(model: BertForPreTraining, precise: Callable[[], AbstractContextManager]) -> Backward:
    """Return `tuned` with a compiled encoder, which passes over memory less often."""
    torch._inductor.config.fallback_random = True  # its own random generator is slower
    model.bert.compile()
    return tuned(model, precise)


@dataclass(frozen=True)
class Implementation:
    """An implementation of pretraining.

    Attributes:
        make: Returns the function that adds the gradients of an update.
        group: Patients per group.
        multiple: Groups are padded to a multiple of this length.
    """

    make: Callable[[BertForPreTraining, Callable[[], AbstractContextManager]], Backward]
    group: int
    multiple: int


IMPLEMENTATIONS = {
    "stock": Implementation(stock, 8, 1),
    "tuned": Implementation(tuned, 16, 8),
    "compiled": Implementation(compiled, 16, 8),
}


def main() -> None:
    """Train, and print the measurements."""
    parser = argparse.ArgumentParser(
        description="Measure pretraining in PyTorch.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("implementation", choices=IMPLEMENTATIONS)
    parser.add_argument("sequences", type=Path, help="folder of `ehr-bert preprocess`")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--vocab-size", type=int, default=82_603, help="rows of the embedding table")
    parser.add_argument("--batch-patients", type=int, default=256, help="patients per update")
    parser.add_argument("--warm-up", type=int, default=2, help="updates before the measured ones")
    parser.add_argument("--updates", type=int, default=5, help="measured updates")
    options = parser.parse_args()

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=options.vocab_size)
    implementation = IMPLEMENTATIONS[options.implementation]
    model = new_model(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    backward = implementation.make(
        model, lambda: torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16")
    )
    updates = Patients(options.sequences, config).updates(
        options.batch_patients, implementation.group, implementation.multiple
    )
    seconds, real_tokens = [], []
    for _ in range(options.warm_up + options.updates):
        start = time.perf_counter()
        groups = next(updates)
        backward(groups)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
        real_tokens.append(sum(int(group["attention_mask"].sum()) for group in groups))
    measured = {
        "seconds": seconds[options.warm_up :],
        "real_tokens": real_tokens[options.warm_up :],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
