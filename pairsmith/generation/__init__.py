"""Generation: prompts -> completions, written by the members of a pool, and evolved by rewriting them.

It offers:

- `pool.generate`: one member answers the prompts for which it is drawn; `pool.completion_requests`: its requests
- `evolution.evolve`: in each round, completions are rewritten to be better in one respect; `evolution.flaw`: what is
  wrong with a rewrite
- `frames.unframed`: a rewrite without what the model says around it, by the table of words in `frame_words`
- `templates/`: a file for each method of evolution, and the request around it

It may import about, ids, errors, memory, session, text, config, protocol, storage, ledger and progress. It knows models
only through `protocol`, never a backend.
"""
