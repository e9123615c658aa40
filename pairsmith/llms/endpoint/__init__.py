"""Endpoints: models behind OpenAI's chat completions protocol, asked by HTTP within the limits of a recipe.

It offers:

- `openai.OpenAI`: the backend; `batch.Batched`: the same models through files, for `mode: batch`
- `engines.engine_for`: the engine of a model at an endpoint, which all sessions of a process share
- `keys.key_of`: the key of an endpoint; `keys.without`: an error's text without it

Below these, from the queue to the wire: `engine` (queue and permits), `jobs` (a request and the sink of its reply),
`attempts` (retries, and what a status means), `limits` (concurrency, breaker, rates), `holds` (Retry-After), `wire`
(the protocol as pure functions) and `client` (HTTP). `engine_server` is the process in which engines with many calls
run, `remote_engine` its client. `batch_desk` gathers requests of many streams into batches and collects them.

It may import what `llms` may.
"""
