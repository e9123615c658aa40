"""The commands of the command line, by subject, and what they print.

It offers a table of commands in each `*_commands` module, their options, the exit codes, and output for a terminal.
Modules that `--help` needs import only click; everything else is imported inside the commands. It may import the flows,
the service and `pairsmith`.
"""
