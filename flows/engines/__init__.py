"""Engines: where the tasks of a run work, when that is not in threads of its own process.

It offers the choice of one by its name (`choosing`), which gives an `engine`, what is looked at on its workers before a
run (`probing`), and how many processes share an endpoint's rates (`sharing`). `dask` and `ray` each know one engine,
and are imported when it is chosen. It may import `pairsmith`, the tasks and the service, and no flow.
"""
