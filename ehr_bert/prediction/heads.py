"""Heads: from the vectors of a history's tokens to its logits.

B: histories, T: tokens, V: visits, H: size of a token's vector, O: outputs.
"""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ehr_bert.errors import UserError
from ehr_bert.prediction.batches import PaddedBatch

DROPOUT = 0.1
"""Share of the numbers before the last layer that are dropped in training."""


def visit_vectors(hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
    """The mean vector of each visit's tokens, 0 past a history's last visit.

    Args:
        hidden: `[B, T, H]`.
        batch: Tells the visits.

    Returns:
        `[B, V, H]`, V the most visits of a history, 1 at least.
    """
    histories, _, size = hidden.shape
    slots = max(int(batch.visits.max()), 1) + 1  # The first is for what is of no visit.
    first_slot = torch.arange(histories, device=hidden.device)[:, None] * slots
    slot = (first_slot + batch.visit_ids).flatten()  # [B * T]
    summed = hidden.new_zeros(histories * slots, size).index_add(0, slot, hidden.flatten(0, 1))
    counts = torch.bincount(slot, minlength=histories * slots).clamp(min=1)
    return (summed / counts[:, None].to(hidden.dtype)).unflatten(0, (histories, slots))[:, 1:]


class Head(nn.Module):
    """Base of the heads: what the vectors are reduced to, without weights, and what is made of that.

    Args:
        hidden_size: H.
        outputs: O.
    """

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__()
        self.hidden_size, self.outputs = hidden_size, outputs

    def forward(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """The logits `[B, O]` of vectors `[B, T, H]`."""
        return self.predict(self.reduce(hidden, batch), batch.visits)

    def reduce(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """Of vectors `[B, T, H]` a vector each history, `[B, H]`; or one each visit, `[B, V, H]`."""
        raise NotImplementedError

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """The logits `[B, O]` of what `reduce` gave; `visits` are how many each has: `[B]`, on the CPU."""
        raise NotImplementedError


class LinearHead(Head):
    """Base of those that are linear on one vector a history."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(hidden_size, outputs)

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """`[B, O]`."""
        return self.linear(self.dropout(reduced))


class ClsHead(LinearHead):
    """Linear on the first token: `[CLS]`, where the model has one."""

    def reduce(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """`[B, H]`."""
        return hidden[:, 0]


class MeanHead(LinearHead):
    """Linear on the mean of all tokens."""

    def reduce(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """`[B, H]`."""
        mask = batch.attention_mask[:, :, None].to(hidden.dtype)  # [B, T, 1]
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


class RecurrentHead(Head):
    """Base of those that run over the visits' vectors."""

    def reduce(self, hidden: torch.Tensor, batch: PaddedBatch) -> torch.Tensor:
        """`[B, V, H]`."""
        return visit_vectors(hidden, batch)


class GruHead(RecurrentHead):
    """Linear on the last state of a GRU that runs over the visits.

    Args:
        hidden_size: H, also of the GRU's states, of both directions together.
        outputs: O.
        bidirectional: Whether another GRU runs from the last visit to the first.
    """

    def __init__(self, hidden_size: int, outputs: int, bidirectional: bool = False) -> None:
        super().__init__(hidden_size, outputs)
        size = hidden_size // (2 if bidirectional else 1)
        self.gru = nn.GRU(hidden_size, size, batch_first=True, bidirectional=bidirectional)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(size * (2 if bidirectional else 1), outputs)

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """`[B, O]`."""
        _, last = self.gru(_packed(reduced, visits))  # [directions, B, H / directions]
        return self.linear(self.dropout(last.transpose(0, 1).flatten(1)))


class BiGruHead(GruHead):
    """Linear on the last states of two GRUs, one from the first visit to the last, one back."""

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs, bidirectional=True)


class RetainHead(RecurrentHead):
    """RETAIN (Choi et al. 2016): visits weighted by attention, their vectors' numbers too.

    Two GRUs read the visits from the last to the first. One gives each visit a weight alpha, a softmax over
    the visits; the other gives its vector's numbers the weights beta, from -1 to 1. The logits are linear in
    the sum of the weighted vectors.
    """

    def __init__(self, hidden_size: int, outputs: int) -> None:
        super().__init__(hidden_size, outputs)
        self.alpha_gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.alpha = nn.Linear(hidden_size, 1)
        self.beta_gru = nn.GRU(hidden_size, hidden_size, batch_first=True)
        self.beta = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(DROPOUT)
        self.linear = nn.Linear(hidden_size, outputs)

    def predict(self, reduced: torch.Tensor, visits: torch.Tensor) -> torch.Tensor:
        """`[B, O]`."""
        place = torch.arange(reduced.shape[1])
        back = (visits[:, None].clamp(min=1) - 1 - place).to(reduced.device)  # [B, V]
        real = (back >= 0)[:, :, None]  # [B, V, 1]
        order = back.clamp(min=0)[:, :, None].expand_as(reduced)
        latest_first = reduced.gather(1, order) * real  # [B, V, H]
        packed = _packed(latest_first, visits)
        alpha = self.alpha(_states(self.alpha_gru, packed)).masked_fill(~real, -torch.inf).softmax(dim=1)
        beta = self.beta(_states(self.beta_gru, packed)).tanh()  # [B, V, H]
        context = (alpha * beta * latest_first).sum(dim=1)  # [B, H]
        return self.linear(self.dropout(context))


HEADS: dict[str, type[Head]] = {
    "cls": ClsHead,
    "mean": MeanHead,
    "gru": GruHead,
    "bigru": BiGruHead,
    "retain": RetainHead,
}
"""The heads by name."""


def make_head(name: str, hidden_size: int, outputs: int = 1, seed: int = 0) -> Head:
    """A head whose weights are random by `seed`.

    Raises:
        UserError: there is no head of that name.
    """
    if name not in HEADS:
        raise UserError(f"there is no head {name!r}: take one of {', '.join(HEADS)}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return HEADS[name](hidden_size, outputs).eval()


def _packed(vectors: torch.Tensor, visits: torch.Tensor) -> torch.nn.utils.rnn.PackedSequence:
    return pack_padded_sequence(vectors, visits.clamp(min=1), batch_first=True, enforce_sorted=False)


def _states(gru: nn.GRU, packed: torch.nn.utils.rnn.PackedSequence) -> torch.Tensor:
    """The state at each visit: `[B, V, H]`."""
    return pad_packed_sequence(gru(packed)[0], batch_first=True)[0]
