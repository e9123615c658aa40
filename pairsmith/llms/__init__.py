"""Backends: the models that a recipe can name, all behind the protocol in `pairsmith.protocol`.

It offers:

- `registry.open_llm`: the backend that a recipe names; `registry.identity_of`: which model that is
- `recorded.Recorded`: a backend whose replies go through the ledger
- `budget.Budgeted`: a backend that stops at a data set's budget
- `echo.Echo`: a deterministic model without weights, for tests and rehearsals
- `endpoint/`: models behind an HTTP API; `local/`: models in this process

It may import about, ids, errors, memory, session, text, config, protocol, storage, ledger and progress.
"""
