"""Tells experiment trackers what an audit found, after its reports are written. Nothing here is imported unless asked for.

Does not own: the result; what a tracker refuses or loses is still in the store and in the reports.
"""
