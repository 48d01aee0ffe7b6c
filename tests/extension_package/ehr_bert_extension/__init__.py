"""A package that extends `ehr_bert` through entry points, for tests."""
