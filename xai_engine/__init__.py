"""Radiolucent's engine: reading radiographs, classifying them, explaining the classification.

Importing this package loads neither torch nor MONAI nor Qt.
"""

__version__ = "0.1.0"
