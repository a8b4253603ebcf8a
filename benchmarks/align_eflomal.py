"""eflomal (Östling and Tiedemann 2016) on the joint text, both directions: Pharaoh links, a file each.

.benchmarks/venv/bin/python benchmarks/align_eflomal.py SOURCE TARGET FORWARD REVERSE
"""

import sys

from eflomal import Aligner

source, target, forward, reverse = sys.argv[1:]
with open(source, encoding="utf-8") as sources, open(target, encoding="utf-8") as targets:
    Aligner().align(sources, targets, links_filename_fwd=forward, links_filename_rev=reverse)
