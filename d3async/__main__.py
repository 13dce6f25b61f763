"""`python -m d3async`."""

from d3async.cli.main import main

main()
