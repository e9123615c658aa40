"""Planning: what a run would ask and cost, and whether it can go well at all, before it begins.

It offers `dry_run.plan_run` and `preflight`: what can be known without asking (`look`), and one call to each endpoint
(`ask_endpoints`); `tuning`: which batch size and dtype are fastest on this machine. It may import sources and llms, and
whatever these may import.
"""
