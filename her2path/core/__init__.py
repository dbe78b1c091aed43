"""The vocabulary: errors, geometry, settings, columns of every table, flags, results.

Nothing here reads a slide or measures anything; every other wing speaks in these words.
"""
