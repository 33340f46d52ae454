"""Plain arrays in, plain values out: outlier tests, intervals, resampling.

Does not own: what the numbers mean (``attacks``), how they are shown (``report``). Imports nothing else of Dosimeter.
"""
