"""The tool's own calibration: what it claims of itself, tried on this machine, with controls.

Does not own: what is tried (``loading``, ``study``, the methods). Each module has ``run() -> SelftestReport``.
"""
