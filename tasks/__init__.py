"""Thin Prefect tasks, one file a stage: each calls one function of `pairsmith.stages` and returns small JSON."""
