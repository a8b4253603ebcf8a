"""`python -m kotya`."""

from kotya.cli.main import main

main()
