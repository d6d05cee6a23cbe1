"""The README's commands and its example."""

import pathlib
import re

import jax

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


def test_top_two_commands():
    commands = re.findall(r"```bash\n(.*?)\n```", README, re.DOTALL)
    assert commands[0] == (
        "pip install -e . && "
        "python -m hgeo.main --config=configs/quickstart.py --workdir=runs/quickstart"
    )
    assert commands[1] == "pip install -e '.[test]' && pytest"


def test_examples_run_one_after_the_other(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # one of them writes
    names = {}
    for example in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        with jax.numpy_dtype_promotion("standard"):  # as its reader has it; Optax needs it
            exec(example, names)
        printed = capsys.readouterr().out
        assert "layers_0/kernel" in printed
        assert "layers_2/kernel" in printed
    assert (tmp_path / "runs" / "mine" / "geometry.csv").exists()
