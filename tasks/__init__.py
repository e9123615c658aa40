"""Prefect tasks, imported as `pairsmith_tasks`: each runs one stage for one shard, with retries.

It offers a task a module, named as the stage in `pairsmith.stages` that it calls, what all of them have in common
(`options`), and how they share an endpoint (`endpoints`). It may import `pairsmith`, and no flow.
"""
