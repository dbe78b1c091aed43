"""From pixels to cells: tissue, stains, nuclei and their kind, membranes, quality of the slide.

Arrays in, arrays or tables out; no files, no dask, no state.
"""
