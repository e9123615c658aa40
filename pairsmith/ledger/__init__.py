"""The ledger: every reply that a model ever gave and was paid for, durable before anything else uses it.

`ledger` opens one by URL (`open_ledger`). Its parts are `replies` (what models answered, by the request's key),
`spending` (calls, tokens and cost), `batches` (submitted and not collected yet) and `dataset_lock` (one run a data set
among machines). Below them, `database` is the SQLite file or PostgreSQL database, `schema` its tables and how those of
an older ledger are brought to this format, `group_commit` the writing of several threads at once. `bookkeeping` is
what a person does with a ledger: export, import, verify, prune.

May import `protocol`, `storage` and what lies below them, never `llms`: an engine in another process, which knows no
other model, records its replies here.
"""
