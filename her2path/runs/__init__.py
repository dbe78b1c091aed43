"""Slides, cases and batches from beginning to end: the order of steps, resume, workers.

`stream` alone knows dask.
"""
