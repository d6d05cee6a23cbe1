"""When something is measured: steps, epochs or percentages of a config as numbers of steps."""

import re
from collections.abc import Iterable

from hgeo.config import Config
from hgeo.errors import InputError

KEYS = ("probe", "evaluation")
_FORMS = re.compile(r"(\d+(?:\.\d+)?) ?(epochs?|%)")


def with_steps(config: Config, num_examples: int | None) -> Config:
    """The config with its moments as steps; epochs stay as they are while no data is known.

    Raises:
      InputError: an entry that is neither a step, `"2.5 epochs"` nor `"40%"`.
    """
    resolved = config.copy_and_resolve_references()
    with resolved.unlocked():
        for key in KEYS:
            per_epoch = None if num_examples is None else num_examples // config.batch_size
            resolved[key].steps = as_steps(f"{key}.steps", config[key].steps, config, per_epoch)
    resolved.lock()
    return resolved


def as_steps(
    key: str, moments: Iterable[int | str], config: Config, steps_per_epoch: int | None
) -> tuple[int | str, ...]:
    """Moments as steps, each once and ascending; the nearest step where they fall between two."""
    found: list[int | str] = []
    for moment in moments:
        form = _FORMS.fullmatch(moment) if isinstance(moment, str) else None
        if isinstance(moment, int):
            found.append(moment)
        elif form is None:
            raise InputError(
                f"{key} takes steps (300), epochs ('2.5 epochs') and percentages ('40%'), "
                f"not {moment!r}"
            )
        elif form[2] == "%":
            found.append(round(float(form[1]) / 100 * config.steps))
        else:
            step = None if steps_per_epoch is None else round(float(form[1]) * steps_per_epoch)
            found.append(moment if step is None else step)
    return tuple(sorted(set(found), key=lambda moment: (isinstance(moment, str), moment)))
