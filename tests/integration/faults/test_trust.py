"""A run listens on no port."""

import subprocess
import sys

from tests.experiments import ROOT

LISTENS = """
import socket, sys
heard = []
sys.addaudithook(lambda event, args: heard.append(args) if event == "socket.bind" else None)
from rich.console import Console
from configs import quickstart
from hgeo.experiment.run_experiment import run_experiment
import pathlib
config = quickstart.get_config("smoke")
config.steps, config.probe.steps, config.probe.layers = 1, (0,), (4,)
config.lock()
run_experiment(config, sys.argv[1], Console(quiet=True))
own = {line.split("[")[1][:-1] for fd in pathlib.Path("/proc/self/fd").iterdir()
       for line in [str(fd.readlink()) if fd.exists() or fd.is_symlink() else ""]
       if line.startswith("socket:[")}
listening = [line for name in ("tcp", "tcp6") for line in
             pathlib.Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]
             if line.split()[3] == "0A" and line.split()[9] in own]
print("bound:", heard, "listening:", listening)
"""


def test_a_run_listens_on_no_port(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", LISTENS, str(tmp_path / "work")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "bound: [] listening: []" in result.stdout
