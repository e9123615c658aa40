"""Storage: where a data set's tables, versions and decisions stand, on a disk or on object storage.

It offers:

- `store.Store`: the tables of a data set, validated and marked with what they were made from; `schemas` says
  what a table holds, `tables` which tables a recipe has; `store.RecentTables` keeps those that are needed again soon
- `files.Files`: what a place must offer, met by `local_files` and `object_files`; `opening.files_at` says which one a
  root means; `disk` and `local_swaps` are how a file on a disk is there whole, for good, or on a condition
- `versions`: what became of each version and where `latest` leads; `decisions`: what people decided about them;
  `datafiles`: reading a version's pairs; `formats`: refusing what a newer pairsmith wrote
- `locks`: a folder held by one process; `lock_wait`: how long a lock is waited for, the ledger's too
- `drivers`: names of database drivers

It may import about, ids, errors, memory, text, config and protocol.
"""
