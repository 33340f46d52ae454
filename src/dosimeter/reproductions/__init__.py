"""One module per system, under its slug: runs the method at two sizes and checks the paper's relations, controls included.

``quick`` needs no network and no data folder; ``full`` uses the real public sets. Does not own: algorithms, thresholds
of taste - a bound comes from the paper or from statistics, and a relation that does not hold is reported as such.
"""
