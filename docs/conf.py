"""How Sphinx makes the site of these pages: `make docs`."""

import re
from typing import Any

import mermaidx
from docutils import nodes
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

project = "epochd"
author = "the epochd authors"
project_copyright = "the epochd authors, MIT licence"
html_title = "epochd"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
# The notebook carries the outputs that it was executed with.
nb_execution_mode = "off"
# Widgets would be loaded from elsewhere.
nb_ipywidgets_js: dict[str, dict[str, str]] = {}

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = False

# Docstrings write code in single backticks.
default_role = "code"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88


class Mermaid(SphinxDirective):
    """A diagram, drawn when the site is built: readers need no script from anywhere."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The picture as a part of the page."""
        # Styles go by the picture's id, which is the same for all as they are drawn.
        own = f"diagram-{self.env.new_serialno('diagram')}"
        picture = mermaidx.render("\n".join(self.content)).svg().replace("my-svg", own)
        return [nodes.raw("", f'<div class="diagram">{picture}</div>', format="html")]


def _plain(returned: str | None) -> str | None:
    """What a user of `Client` gets: methods are written as generators of steps, which the carriers carry out."""
    if returned is None:
        return None
    returned = re.sub(r"\[~?(?:[\w.]+\.)?Carrier\]", "", returned.strip("'\""))
    stream = re.search(r"(?:Emit|Stream)\[(.*?)\](?:, ~?(?:typing\.)?Any, None\])?$", returned)
    if stream:
        return f"Iterator[{stream[1]}]"
    flow = re.fullmatch(r"~?(?:[\w.]+\.)?(?:Flow\[|Generator\[.*?, ~?(?:typing\.)?Any, )(.*)\]", returned)
    return flow[1] if flow else returned


def as_users_see_it(
    app: Sphinx, what: str, name: str, of: object, options: Any, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Signatures without the client's inner words. Values are read, not made, so theirs have none."""
    if isinstance(of, type) and issubclass(of, BaseModel):
        return "", None
    return arguments, _plain(returned)


# Napoleon takes what stands before a colon in an attribute's docstring for its type. Ours are sentences.
_sentences: dict[str, list[str]] = {}


def before_napoleon(app: Sphinx, what: str, name: str, of: object, options: Any, lines: list[str]) -> None:
    """A module's docstring is for those who read its code; an attribute's is kept as it is."""
    if what == "module":
        lines.clear()
    elif what in {"attribute", "data", "property"}:
        _sentences[name] = [*lines]


def after_napoleon(app: Sphinx, what: str, name: str, of: object, options: Any, lines: list[str]) -> None:
    """See above."""
    lines[:] = _sentences.pop(name, lines)


def setup(app: Sphinx) -> None:
    """What this site has beyond its extensions."""
    app.add_directive("mermaid", Mermaid)
    app.connect("autodoc-process-signature", as_users_see_it)
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
