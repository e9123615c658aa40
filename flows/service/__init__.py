"""`pairsmith serve`, and what a flow needs to know about the Prefect server that it runs on.

It offers the service's processes and the watchdog that ends them (`serving`, `parts`, `watchdog`, `processes`), the
set-up of the server (`deploying`, `deploy_steps`, `old_names`), Prefect's settings (`settings`), a run's temporary
server (`server`) and marking runs that died unnoticed (`stale`). It may import `pairsmith`, and no flow.
"""
