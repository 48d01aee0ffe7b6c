"""Counts of the codes of histories, and their replacement by token ids."""

import ibis.expr.types as ir

from ehr_bert.schemas import SEQUENCES


def code_counts(histories: ir.Table) -> ir.Table:
    """Count each code by split: `split`, `code_rank`, `patients` and `occurrences` (visits)."""
    patients = _counted(histories.select("split", code_rank=histories.distinct_ranks.unnest()), "patients")
    visits = _counted(histories.select("split", code_rank=histories.code_ranks.unnest()), "occurrences")
    return patients.join(visits, ("split", "code_rank"))


def with_token_ids(histories: ir.Table, lookup: ir.Table) -> ir.Table:
    """Replace codes by token ids.

    Args:
        histories: A table as `ordered_parts` returns it.
        lookup: One row with a column `token_ids`, the id of each code by rank.

    Returns:
        The columns of `SEQUENCES`.
    """
    paired = histories.cross_join(lookup)
    return paired.mutate(token_ids=paired.code_ranks.map(lambda rank: paired.token_ids[rank])).select(
        *SEQUENCES.names
    )


def _counted(ranks: ir.Table, name: str) -> ir.Table:
    return ranks.group_by("split", "code_rank").aggregate(**{name: ranks.count()})
