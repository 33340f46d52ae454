"""Reports: what a study ended with, as a page that a person reads and in the formats that machines read.

Does not own: numbers (``study.outcome``), figure specifications (``core.figures``), printing (``cli``).
Every format shows the same outcome; nothing is computed here that is not in ``report.json``.
"""
