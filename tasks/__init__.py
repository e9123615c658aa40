"""Prefect tasks, imported as `pairsmith_tasks`: each runs one stage for one shard, with retries.

It offers one task per module, named like the stage in `pairsmith.stages` that it calls; `options` holds the settings of
all tasks, and `endpoints` lets them share an endpoint. It may import `pairsmith`, and no flow.
"""
