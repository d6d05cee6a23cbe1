"""The work folder: keeps a config's runs, and checks that they are this config's."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from hgeo.errors import InputError
from hgeo.records.run_records import RunRecords, write_text
from hgeo.workloads.workload import Workload

# Keys that may change between two starts of one experiment: where things are, how work is divided,
# what is reported, and the number of repeats.
MUTABLE_KEYS = {
    "data_dir",
    "cache_dir",
    "checkpoint_every",
    "compare",
    "keep_checkpoints",
    "repeats",
    "runs_together",
    "same_loss.losses",
    "same_loss.of",
    "share",
    "probe_only",
    "probe.steps",
    "evaluation.steps",
    "probe.chunk_size",
    "probe.remat",
    "probe.microbatch_size",
}

# Keys that folders of earlier versions lack, with the value that their absence means.
ADDED_KEYS = {"probe.dropout": False}

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "ml-collections")


class WorkFolder:
    """A folder that holds one experiment: its config, its runs, its tables and figures."""

    def __init__(self, path: epath.PathLike):
        """Opens or creates the folder.

        Raises:
          InputError: the folder can't be made or written to, or its file system needs a package
            that isn't installed.
        """
        self.path = epath.Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # Other processes may open the folder at the same moment.
            probe = self.path / f".writable_{uuid.uuid4().hex}"
            probe.write_text("")
            probe.unlink()
        except (OSError, ImportError) as error:
            raise InputError(f"the work folder {self.path} can't be written to: {error}") from error

    def run_folder(self, optimizer: str, repeat: int) -> epath.Path:
        """Where one run keeps its records and checkpoints."""
        return self.path / "runs" / optimizer / f"repeat_{repeat}"

    def records(self, optimizers: Iterable[str], repeats: int) -> list[RunRecords]:
        """The records of all runs, in their order."""
        return [
            RunRecords(self.run_folder(optimizer, repeat))
            for optimizer in optimizers
            for repeat in range(repeats)
        ]

    def standalone_probes(self, name: str) -> "WorkFolder":
        """The subfolder for probes of this folder's checkpoints."""
        return WorkFolder(self.path / "probes" / name)

    def check(self, settings: Mapping[str, Any], any_probe: bool = False) -> None:
        """Checks that what the folder holds, if anything, is this experiment.

        Args:
          settings: all keys of the experiment's config.
          any_probe: whether the probe's settings may differ, because the folder's checkpoints are
            only probed.

        Raises:
          InputError: it is another experiment's; the message lists the keys that differ with both
            values.
        """
        new, old = flat_keys(_jsonable(settings)), flat_keys(self._stored().get("config", {}))
        if any_probe:
            new, old = (
                {k: v for k, v in keys.items() if not k.startswith("probe.")} for keys in (new, old)
            )
        self._compare(new, old)

    def num_examples(self) -> int | None:
        """The number of training examples of the folder's runs; `None` without runs."""
        return self._stored().get("data", {}).get("num_examples")

    def check_data(self, workload: Workload) -> None:
        """Checks that the folder's runs, if it has any, had these data.

        Raises:
          InputError: they had other data; the message has both digests.
        """
        stored = self._stored().get("data", {})
        self._compare(flat_keys({"data": _data(workload)}), flat_keys({"data": stored}))

    def take(self, settings: Mapping[str, Any], workload: Workload, dtypes: Sequence[str]) -> None:
        """Writes `config.json`: the settings, the data's digest, libraries and devices.

        It also keeps the libraries and devices of earlier starts, where they differ.

        Args:
          settings: all keys of the experiment's config.
          workload: its data.
          dtypes: of the params.

        Raises:
          InputError: earlier runs in the folder had other data.
        """
        settings = _jsonable(settings)
        self.check_data(workload)
        before = self._stored()
        environment = _environment(settings["probe"]["precision"], dtypes)
        earlier = before.get("earlier_environments", [])
        if before.get("environment", environment) not in (environment, *earlier):
            earlier = [*earlier, before["environment"]]
        content = {
            "config": settings,
            "config_sha256": _sha256(settings),
            "data": _data(workload),
            "environment": environment,
            "earlier_environments": earlier,
        }
        write_text(self.path / "config.json", json.dumps(content, indent=2) + "\n")

    def _stored(self) -> dict[str, Any]:
        path = self.path / "config.json"
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_bytes())
            stored = content.get("config_sha256")
            if stored is not None and stored != _sha256(content["config"]):
                raise ValueError("its config is not the one that was written")
        except (ValueError, KeyError, AttributeError) as error:
            raise InputError(
                f"{path} is damaged ({error}), so that the folder's experiment is unknown; put "
                "a whole copy in its place, or use another work folder"
            ) from error
        return content

    def _compare(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        keys = sorted((new.keys() | old.keys()) - MUTABLE_KEYS) if old else []
        value = lambda settings, key: settings.get(key, ADDED_KEYS.get(key))
        differing = [key for key in keys if value(new, key) != value(old, key)]
        if differing:
            lines = [f"  {key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in differing]
            raise InputError(
                f"{self.path} holds another experiment's runs; use another work folder. "
                "These keys differ:\n" + "\n".join(lines)
            )


def _data(workload: Workload) -> dict[str, Any]:
    return {"sha256": workload.sha256, "num_examples": workload.num_examples}


def _jsonable(settings: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(settings))


def flat_keys(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by path, such as `probe.eps`."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flat_keys(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _sha256(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _environment(probe_precision: str | None, dtypes: Sequence[str]) -> dict[str, Any]:
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return {
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "hgeo": importlib.metadata.version("hgeo"),
        "git_revision": _git_revision(),
        "platform": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "dtype": sorted(set(dtypes)),
        "training_precision": precision or "default",
        "probe_precision": probe_precision,
    }


def _git_revision() -> str | None:
    """The revision of the checkout that hgeo runs from, `-dirty` if it was changed; or `None`."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # Installed below another repository, Git would give that repository's revision.
        _output(*git, "ls-files", "--error-unmatch", Path(__file__).name)
        return _output(*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
