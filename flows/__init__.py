"""Prefect flows and the command line, imported as `pairsmith_flows`: importing it imports nothing else.

It offers the flows (`preferences`: build, rate, pair; `refresh`: the scheduled one), approval of a version by a person
(`approval`), progress in Prefect's UI (`artifacts`), the `pairsmith` command (`__main__` and `cli`), and `pairsmith
serve` (`service`). It may import `pairsmith_tasks` and `pairsmith`; neither imports it.
"""
