"""The README's commands and its example."""

import pathlib
import re

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


def test_top_two_commands():
    commands = re.findall(r"```bash\n(.*?)\n```", README, re.DOTALL)
    assert commands[0] == (
        "pip install -e . && "
        "python -m hgeo.main --config=configs/quickstart.py --workdir=runs/quickstart"
    )
    assert commands[1] == "pip install -e '.[test]' && pytest"


def test_example_runs(capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(example, {})
    printed = capsys.readouterr().out
    assert "layers_0/kernel" in printed
    assert "layers_2/kernel" in printed
