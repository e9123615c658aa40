"""Storage: a data set's tables, versions and decisions, on a disk or on object storage.

It offers:

- `store.Store`: the tables of a data set, validated, each with the fingerprint of what it was made from; `schemas`
  defines their columns, `tables` names the tables of a recipe; `store.RecentTables` keeps those used last in memory
- `files.Files`: the file operations that storage must offer; `local_files` and `object_files` implement them, and
  `opening.files_at` chooses by the root; `disk` and `local_swaps` write files on a disk durably, or on a condition
- `versions`: the state of each version, and which one `latest` points to; `decisions`: what people decided about
  them; `commits`: how a version comes to be there; `pruning`: how old ones go; `previews`: what a limited run made
  beside them; `addresses`: a version by what people type; `exporting`: one as a plain folder; `datafiles`: its pairs;
  `formats`: refusing what a newer pairsmith wrote
- `locks`: a folder held by one process; `lock_wait`: how long to wait for a lock, the ledger's included
- `lease`: a data set on object storage held by one run, where that keeps to the condition of a write; `fence`: a hold
  that may be lost; `workspace_id`: what names a data set among machines
- `drivers`: names of database drivers; `hub_answers`: why the Hugging Face hub did not give what it was asked for

It may import about, ids, errors, memory, text, config and protocol.
"""
