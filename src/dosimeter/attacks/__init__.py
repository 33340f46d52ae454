"""Attacks: each learns something from a target's answers, as its paper does, within a budget.

Does not own: how results are shown (``report``), what is run on what (``study``). Each package names its paper.
"""
