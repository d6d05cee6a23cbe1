"""Two processes on one machine that find each other, each with some CPU devices."""

import os
import socket
import subprocess
import sys

from tests.experiments import ROOT


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def settings(num_devices):
    """The environment of a process with so many devices, whose collectives reach the other."""
    return {
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    }


def last_words(program, num_devices, folder):
    """The words of the last line that each process prints, run with its number, port and folder."""
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(process), port, str(folder)],
            env={**os.environ, **settings(num_devices), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    printed = [process.communicate(timeout=280) for process in processes]
    for process, (_, errors) in zip(processes, printed, strict=True):
        assert process.returncode == 0, errors[-2000:]
    return [output.splitlines()[-1].split() for output, _ in printed]
