"""Generation: prompts -> completions, by the models of a pool, and by evolving what they wrote.

It offers:

- `pool.generate`: one member answers the prompts that it is drawn for; `completion_requests`: its requests
- `evolution.evolve`: completions rewritten to be better in one respect a round, with what is wrong with a rewrite
- `templates/`: a file for each method of evolution, and the request around it

It may import about, ids, errors, memory, session, text, config, protocol, storage, ledger and progress. It knows a
model by `protocol` alone, never a backend.
"""
