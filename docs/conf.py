"""Sphinx configuration. Neither the build nor the pages need a network."""

import sys
from pathlib import Path

from hint_loss import __version__

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "examples")]

project = "hint-loss"
author = "The hint-loss developers"
copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "sphinx-mathjax-offline",  # formulas without a network
    "tables",
]
exclude_patterns = ["_build", "examples"]

# Names of torch and of Python are written out, not linked: links would need their inventories from the network.
nitpick_ignore_regex = [("py:.*", r"torch\..*|collections\.abc\..*|contextlib\..*|typing\..*|hint_loss\..*\._.*")]
# The annotations of `hint_loss.plot` are read as text, because matplotlib is imported for type checkers alone.
nitpick_ignore = [("py:class", "Axes"), ("py:class", "Tensor")]

autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

doctest_global_setup = "import torch; torch.manual_seed(0); torch.set_num_threads(1)"

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "ignore_pattern": r"scenes\.py",
    "copyfile_regex": r"scenes\.py",
    "image_srcset": ["2x"],
    "abort_on_example_error": True,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 1,
    "download_all_examples": False,
}

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"{project} {release}"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
