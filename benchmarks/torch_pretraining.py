"""Pretraining in PyTorch, the common way and a tuned one: how long updates take.

    python benchmarks/torch_pretraining.py tuned SEQUENCES --precision bfloat16

`stock`: Transformers' `BertForPreTraining`, as its Trainer runs it with labels: 8 patients a micro-batch,
    grouped by length and padded to the longest; all positions go through the head.
`tuned`: the same model; groups of 16 patients go through the encoder one after the other, and the masked
    positions of all of them at once through a compiled head, so that gradients are made once an update.
`compiled`: the same, with the encoder compiled too.

SEQUENCES is a folder of `ehr-bert preprocess`. All take the patients, windows, `[CLS]`, masks and labels that
this project makes of them. Prints JSON: the seconds and the real tokens of each update that was measured, and
the process's memory at its peak.

Legend: N tokens of an update's patients, G patients of a group, L its positions, H width, V vocabulary.
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
"""Patients of so many updates are sorted by length together, as the Trainer does."""

NOT_MASKED = -100
"""What stands in for a label where none is asked for."""

TUNED_BACKWARD_PATIENTS = 256
"""Patients whose gradients `tuned` makes at once: some 5 GB of memory."""

Tensors = dict[str, torch.Tensor]


class Patients:
    """The training split of a folder of sequences, in groups of about one length."""

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
        """The groups of each update, endless.

        Patients of many updates are sorted by length and divided into as many strata as an update has
        groups; an update takes one group of each, so that all updates are alike.

        Args:
            patients: Patients an update.
            group: Patients a group.
            multiple: Groups are padded to a multiple of it.
        """
        strata, rest = divmod(patients, group)
        block = min(BLOCK_UPDATES, len(self.all.lengths) // patients)
        if rest or not block:
            raise SystemExit(
                f"{patients} patients an update: take a multiple of {group}, and no more than there are"
            )
        while True:
            drawn = self.generator.permutation(len(self.all.lengths))[: block * patients]
            drawn = drawn[np.argsort(self.all.lengths[drawn], kind="stable")].reshape(strata, block, group)
            order = self.generator.permuted(np.tile(np.arange(block), (strata, 1)), axis=1)
            for update in order.T:
                yield [self._group(chosen, multiple) for chosen in drawn[np.arange(strata), update]]

    def _group(self, chosen: np.ndarray, multiple: int) -> Tensors:
        """Masks patients, and pads them to a length of all."""
        lengths, stays = self.all.lengths[chosen], self.all.longest_stays[chosen]
        places = spans(self.starts[chosen], lengths)  # [N]
        tokens, visits = self.all.tokens[places], np.minimum(self.all.visits[places], self.last_visit)
        masked = self.masking.mask(Windows(tokens, visits, lengths, stays), self.generator)
        labels = np.full_like(tokens, NOT_MASKED)
        labels[masked.positions] = tokens[masked.positions]
        longest = -(-lengths.max() // multiple) * multiple
        real = np.arange(longest) < lengths[:, None]  # [G, L]

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
    """The model at this project's shape, in training mode."""
    shape = config.to_dict()
    shape.pop("stay_pooling")
    return BertForPreTraining(BertConfig(**shape, attn_implementation="sdpa")).train()


Backward = Callable[[list[Tensors]], None]
"""Adds the gradients of an update's loss."""


def stock(model: BertForPreTraining, precise: Callable[[], AbstractContextManager]) -> Backward:
    """As the Trainer does it: the mean of the micro-batches' losses."""

    def backward(groups: list[Tensors]) -> None:
        for group in groups:
            with precise():
                loss = model(**group).loss
            (loss / len(groups)).backward()

    return backward


def tuned(model: BertForPreTraining, precise: Callable[[], AbstractContextManager]) -> Backward:
    """As few positions and passes over the vocabulary's table as padding allows."""
    table = model.bert.embeddings.word_embeddings.weight  # [V, H]
    heads = model.cls

    @torch.compile(dynamic=True)
    def masked_codes(hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The sum of the losses; hidden [M, H], labels [M]."""
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
        # One look-up for all groups: the gradient of each would be as large as the table.
        flat = embedding(
            torch.cat([group["input_ids"].flatten() for group in groups]), table
        )  # [G * L summed, H]
        embedded = flat.split([group["input_ids"].numel() for group in groups])
        hidden, labels, pooled = [], [], []
        for group, vectors in zip(groups, embedded, strict=True):
            encoded = model.bert(
                inputs_embeds=vectors.view(*group["input_ids"].shape, -1),  # [G, L, H]
                token_type_ids=group["token_type_ids"],
                attention_mask=group["attention_mask"].bool()[:, None, None, :],
            )
            is_masked = group["labels"] != NOT_MASKED  # [G, L]
            hidden.append(encoded.last_hidden_state[is_masked])
            labels.append(group["labels"][is_masked])
            pooled.append(encoded.pooler_output)
        stay_logits = heads.seq_relationship(torch.cat(pooled))  # [patients, 2]
        prolonged = torch.cat([group["next_sentence_label"] for group in groups])
        return (
            masked_codes(torch.cat(hidden), torch.cat(labels)),
            cross_entropy(stay_logits.float(), prolonged, reduction="sum"),
        )

    return backward


def compiled(model: BertForPreTraining, precise: Callable[[], AbstractContextManager]) -> Backward:
    """`tuned` with fewer passes over memory in the encoder."""
    torch._inductor.config.fallback_random = True  # its own random numbers, one by one, take longer
    model.bert.compile()
    return tuned(model, precise)


@dataclass(frozen=True)
class Way:
    """A way to train.

    Attributes:
        make: Gives what adds the gradients of an update.
        group: Patients a group.
        multiple: Groups are padded to a multiple of it.
    """

    make: Callable[[BertForPreTraining, Callable[[], AbstractContextManager]], Backward]
    group: int
    multiple: int


WAYS = {"stock": Way(stock, 8, 1), "tuned": Way(tuned, 16, 8), "compiled": Way(compiled, 16, 8)}


def main() -> None:
    """Trains, and prints what it took."""
    parser = argparse.ArgumentParser(
        description="Measure pretraining in PyTorch.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("sequences", type=Path, help="folder that `ehr-bert preprocess` made")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--vocab-size", type=int, default=82_603, help="rows of the model's table")
    parser.add_argument("--batch-patients", type=int, default=256, help="patients an update")
    parser.add_argument("--warm-up", type=int, default=2, help="updates before those that are measured")
    parser.add_argument("--updates", type=int, default=5, help="updates that are measured")
    options = parser.parse_args()

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    config = ModelConfig(vocab_size=options.vocab_size)
    way = WAYS[options.way]
    model = new_model(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    backward = way.make(
        model, lambda: torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16")
    )
    updates = Patients(options.sequences, config).updates(options.batch_patients, way.group, way.multiple)
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
    told = {
        "seconds": seconds[options.warm_up :],
        "real_tokens": real_tokens[options.warm_up :],
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
