"""Doors to files: slides, OUT folders, annotations, readers' scores and corrections.

`slide` alone knows OpenSlide and tifffile, `store` alone the layout of OUT on disk.
"""
