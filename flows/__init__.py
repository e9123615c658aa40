"""Prefect flows and the command line. Importing this package imports nothing else, so that `--help` is instant."""
