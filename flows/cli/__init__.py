"""The command line's commands, by what they are about, and what they print.

It offers a table of commands in each `*_commands` module, their options, exit codes, and what is drawn on a terminal.
Modules that `--help` needs import click alone; all else is imported inside the commands. It may import the flows, the
service and `pairsmith`.
"""
