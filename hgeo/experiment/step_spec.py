"""Steps of measurements: steps, epochs or percentages of a config as numbers of steps."""

import re
from collections.abc import Iterable

from hgeo.errors import InputError

_FORMS = re.compile(r"(\d+(?:\.\d+)?) ?(epochs?|%)")


def as_steps(
    key: str, moments: Iterable[int | str], num_steps: int, steps_per_epoch: int | None
) -> tuple[int | str, ...]:
    """Moments as steps, each once, ascending, rounded to the nearest step.

    Args:
      key: of the config, for the error.
      moments: steps (300), epochs ("2.5 epochs") and percentages ("40%").
      num_steps: updates of a run.
      steps_per_epoch: of the data; `None` if it is not known yet, where epochs stay epochs, at the
        end.

    Raises:
      InputError: an entry is none of these.
    """
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
            found.append(round(float(form[1]) / 100 * num_steps))
        else:
            step = None if steps_per_epoch is None else round(float(form[1]) * steps_per_epoch)
            found.append(moment if step is None else step)
    return tuple(sorted(set(found), key=lambda moment: (isinstance(moment, str), moment)))


def are_known(steps: Iterable[int | str]) -> bool:
    """Whether no entry is an epoch."""
    return not any(isinstance(step, str) for step in steps)
