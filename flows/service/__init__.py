"""`pairsmith serve`, and what a flow needs to know of the Prefect server that it runs on.

It offers the service's parts and the watchdog that ends them (`serving`, `parts`, `watchdog`, `processes`), what the
server is told (`deploying`, `deploy_steps`, `old_names`), Prefect's settings (`settings`), a run's temporary server
(`server`) and runs that died unnoticed (`stale`). It may import `pairsmith`, and no flow.
"""
