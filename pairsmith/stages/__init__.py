"""The stages of a run, one a file: each reads tables, calls a step's pure function and writes a table.

A stage's fingerprint stands beside it and tells when its table need not be made again. `base` holds what all stages
share, `wiring` puts models together (ledger, budget, backend), `records` keeps what came of a shard, `plan` is the
fingerprint of all that decides a shard's outcome, `freshness` tells what is done already. May import every wing but
`status`, `building` and `testing`.
"""
