"""The ledger: every reply that a model gave and was paid for, stored durably before anything else uses it.

`ledger` opens one by URL (`open_ledger`). Its parts are `replies` (models' replies by the key of the request),
`spending` (calls, tokens and cost), `batches` (submitted and not yet collected), `adoptions` (which commit gave old
replies of hub models) and `dataset_lock` (one run per data set, over all machines; on PostgreSQL by `database_lock`).
Below them, `database` is the SQLite file or PostgreSQL database, `retries` says which of its errors pass, `schema` has
its tables and their migrations. `amounts` are tokens and their cost. `group_commit` writes the rows of several threads
at once, by `inserting`, and `unrecorded` keeps those that the database could not take. `bookkeeping` is for people:
export, import, verify, prune.

It may import `protocol`, `storage` and what lies below them, never `llms`: an engine in another process records its
replies here too, and knows no other model.
"""
