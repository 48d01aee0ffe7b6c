"""Cohorts: eligible patients with index dates, outcomes, and histories up to the index date."""
