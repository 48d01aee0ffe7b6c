"""Patients who never lived: structured histories whose disease mechanism is known.

So the best AUROC that any model can reach is known too.

**Conditions.** A patient has a sex, an age, a frailty `f` and a site. Condition `k` arises at adult age

    T_k = min(E_k0, min over causes j of T_j + E_kj),    E_kj ~ Exponential(f * rate_kj),

that is on its own or from a condition it follows, whichever is first (`conditions.toml` has the rates).

**Visits.** Visits come at random times in the years a patient is observed, more of them for patients with
more conditions. Such patients are admitted more often too. A visit names each condition then present with a
chance of its own, and a few acute problems, most of them brought by a condition just named. An inpatient
stay is log-normal; what the visit names adds to its mean, so codes foretell prolonged stays.

**Codes.** A condition or problem has a family of codes in ICD-9-CM and one in ICD-10-CM; the discharge date
decides between them. Sites prefer different codes of a family, and patients have a habitual one, so that a
condition is coded in many ways, each of them rare, while a patient's codes recur. The codes and titles in
`codes.tsv` are real ones, from the public-domain tables of both systems.

**Outcome.** A patient of the cohort has an index date, the discharge date of a random visit with enough
history before it and a year of follow-up. The log-odds of the outcome are a known function of what was
recorded up to that date. Who draws it has the outcome coded at a visit within the year, and from then on.
"""
