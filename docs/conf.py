"""Configuration of Sphinx: ``make docs`` builds the site, and warnings are errors."""

from importlib.metadata import version as installed_version

project = "sb3-savo"
author = "The sb3-savo developers"
version = release = installed_version("sb3-savo")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_copybutton"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"sb3-savo {release}"

myst_enable_extensions = ["deflist", "dollarmath"]
# Links such as guide/items.md#action-masks work for headings down to this level
myst_heading_anchors = 3

# Signatures stay short: the parameters' descriptions say their types where they matter
autodoc_typehints = "none"
autodoc_class_signature = "separated"
autodoc_member_order = "bysource"

# Lines of shell commands are copied without the prompt
copybutton_prompt_text = "$ "
