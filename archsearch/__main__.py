"""``python -m archsearch``: the command line by the interpreter that has it."""

from archsearch.cli import main

main()
