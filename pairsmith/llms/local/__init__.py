"""Local models: weights that run in this process, on a CPU or a GPU.

It offers:

- `transformers.Transformers`, `vllm.VLLM`: backends that write texts; `reward.Reward`: one that scores them;
  `pair_reward.PairReward`: one that compares two, such as PairRM, whose head is in `pairrm`
- `encoder.SentenceEncoder`: vectors of texts; `pairing.candidates.cosine` compares two
- `named_weights.located`: which weights a name means, and where they are; `hub_models`: the local store of models
- `weights.shelf_of`: the weights that a session has loaded
- `trial.TrialProcess`: a process in which a model is tried, for `pairsmith.planning.tuning`

Below these: `machine` (cores and memory), `chat_tokens` (a chat as tokens), `scheduling` (which rows run when and
where), `decoding` (the rows of one pass after the other), `slots` (the key-value cache), `prefixes` (what rows share),
`sampling` (how a token is chosen) and `batching` (batches, for scores and for models without slots). For speed:
`packing` (weights as a CPU multiplies them), `attention` (on a CPU) and `graphs` (recorded passes of a GPU).

It may import what `llms` may. torch, transformers and vllm are imported inside functions, since they take seconds.
"""
