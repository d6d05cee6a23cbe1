"""hgeo's docstrings as mkdocstrings reads them."""

import griffe


class ExampleSections(griffe.Extension):
    """Names the section `Example:` as griffe does, which then sets it as code."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Called for each module, class and function."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
