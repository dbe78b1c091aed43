"""The viewer: a slide with its overlays in a browser, served on loopback only."""

from her2path.outputs.viewer.server import make_server, serve

__all__ = ["make_server", "serve"]
