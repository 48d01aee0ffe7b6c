"""Synthetic patients: structured histories from a known disease mechanism.

As the mechanism is known, so is the best AUROC that any model can reach.

**Conditions.** A patient has a sex, an age, a frailty `f` and a site. Condition `k` starts at adult age

    T_k = min(E_k0, min over causes j of T_j + E_kj),    E_kj ~ Exponential(f * rate_kj),

either by itself or caused by another condition, whichever is first (`conditions.toml` has the rates).

**Visits.** Visits are at random times in the years in which a patient is observed. Patients with more
conditions have more visits and are admitted more often. A visit records each present condition with its own
probability, and a few acute problems, most of them caused by a recorded condition. The length of an inpatient
stay is log-normal. The recorded conditions and problems add to its mean, so codes predict prolonged stays.

**Codes.** A condition or problem has a family of codes in ICD-9-CM and one in ICD-10-CM; the discharge date
selects the system. Sites prefer different codes of a family, and patients have a habitual code. A condition
is therefore recorded under many codes, most of them rare, while the codes of one patient repeat. The codes
and titles in `codes.tsv` are from the public-domain tables of both systems.

**Outcome.** A patient of the cohort has an index date: the discharge date of a random visit with enough
history before it and a year of follow-up. The log-odds of the outcome are a known function of what was
recorded up to that date. A case has the outcome recorded at a visit within the year, and at later visits.
"""
