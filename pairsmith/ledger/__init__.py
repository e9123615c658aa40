"""The ledger: every reply that a model gave and was paid for, stored durably before anything else uses it.

`ledger` opens one by URL (`open_ledger`). Its parts are `replies` (models' replies by the key of the request),
`spending` (calls, tokens and cost), `batches` (submitted and not yet collected) and `dataset_lock` (one run per data
set, over all machines). Below them, `database` is the SQLite file or PostgreSQL database, `schema` its tables and their
migrations, and `group_commit` writes the rows of several threads at once. `bookkeeping` is for people: export, import,
verify, prune.

It may import `protocol`, `storage` and what lies below them, never `llms`: an engine in another process records its
replies here too, and knows no other model.
"""
