"""Files and classes small enough to be read at once."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ("hgeo", "configs", "experiments", "tests")
LINES_OF_FILE, LINES_OF_CLASS = 350, 200


def test_files_and_classes_are_small():
    large = []
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        if len(text.splitlines()) > LINES_OF_FILE:
            large.append(str(path))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                lines = node.end_lineno - node.lineno + 1
                large += [f"{path}: {node.name}"] if lines > LINES_OF_CLASS else []
    assert not large
