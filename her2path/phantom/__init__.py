"""Known-truth H-DAB phantoms: synthetic slides whose every cell is known.

`spec` says what a phantom is, `presets` has ready ones; `layout`, `glands`
and `outline` lay out the tissue and the cells' bodies, `cells` their patterns
and stain, `nuclei` and `stroma` the rest; `paint` renders, `artefacts` spoils,
`truth` keeps the books, `write` makes files.
"""

from her2path.phantom.make import Phantom, make_phantom
from her2path.phantom.presets import CONTROLS, TUMOURS, control_specs, demo_spec, random_spec
from her2path.phantom.spec import PhantomSpec
from her2path.phantom.truth import TRUTH_SCHEMA
from her2path.phantom.write import encode_decode, make_files, summary, write_slide

__all__ = [
    "CONTROLS",
    "TRUTH_SCHEMA",
    "TUMOURS",
    "Phantom",
    "PhantomSpec",
    "control_specs",
    "demo_spec",
    "encode_decode",
    "make_files",
    "make_phantom",
    "random_spec",
    "summary",
    "write_slide",
]
