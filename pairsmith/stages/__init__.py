"""The stages of a run, one per file: each reads tables, calls a step's pure function and writes a table.

A stage's fingerprint is in the same file and says whether its table has to be made again. `base` holds what all stages
share, `wiring` puts models together (ledger, budget, backend), `records` keeps the outcome of each shard, `plan` makes
the fingerprint of all that decides a shard's outcome, `freshness` finds what is done already. It may import every wing
but `status`, `building` and `testing`.
"""
