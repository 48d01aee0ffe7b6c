"""Code systems: canonical codes, titles, and roll-up to coarser codes."""

from ehr_bert.codes.icd import canonical
from ehr_bert.codes.maps import titles
from ehr_bert.codes.roll_up import RollUp, roll_up_targets
from ehr_bert.codes.systems import CodeSystem

__all__ = ["CodeSystem", "RollUp", "canonical", "roll_up_targets", "titles"]
