import numpy as np

from ehr_bert.simulation.coding import SITES, site_coding
from ehr_bert.simulation.conditions import Conditions


def test_a_site_uses_every_code_of_a_family_and_no_other(conditions: Conditions) -> None:
    coding = site_coding(conditions, np.random.default_rng(5))
    families = [set(codes) for system in conditions.members for codes in system] * SITES
    rng = np.random.default_rng(6)
    for group in (0, len(conditions.families) + 3, len(families) - 1):
        items = coding.choices.draw(np.full(5000, group), rng.random(5000))
        assert set(coding.codes[items]) == families[group]


def test_sites_prefer_different_codes(conditions: Conditions) -> None:
    coding = site_coding(conditions, np.random.default_rng(5))
    family = conditions.numbers["hypertension"]
    groups = 2 * np.arange(SITES) * len(conditions.families) + family
    middle = coding.codes[coding.choices.draw(groups, np.full(SITES, 0.5))]
    assert len(set(middle)) > 1
