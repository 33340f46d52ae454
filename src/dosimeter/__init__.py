"""Dosimeter measures what a machine-learning model leaks and what protecting it costs.

Names are loaded on first use; importing the package imports no deep-learning framework.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
