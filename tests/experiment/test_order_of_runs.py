"""Which runs a share has, and which of them are trained together."""

import dataclasses
import itertools

from hgeo.experiment.order_of_runs import families, groups_of, runs_of_share
from hgeo.experiment.resolve import resolve
from hgeo.experiment.resolved import Share
from tests.trajectories import SWITCH, smoke


def names(runs):
    return [(plan.name, repeat) for plan, repeat in runs]


def resolved(repeats=2):
    twin = {"optimizer": "sgdm", "learning_rate": 0.3, "momentum": 0.9, "weight_decay": 0.0}
    optimizers = ("sgdm", "adam", "twin", "adam_after")
    return resolve(
        smoke(repeats=repeats, adam_after=SWITCH, twin=twin, optimizers=optimizers, compare=())
    )


def test_shares_have_each_run_once_and_a_branch_with_its_parent():
    whole = resolved()
    assert names(runs_of_share(whole)) == names(whole.runs)
    shares = [
        names(runs_of_share(dataclasses.replace(whole, share=Share(number, 3))))
        for number in (1, 2, 3)
    ]
    assert sorted(itertools.chain(*shares)) == sorted(names(whole.runs))
    assert [len(share) for share in shares] == [3, 3, 2]
    for share in shares:
        for repeat in (0, 1):
            assert (("adam_after", repeat) in share) == (("sgdm", repeat) in share)


def test_a_run_stays_in_its_share_if_repeats_are_added():
    for share in (Share(1, 2), Share(2, 4), Share(4, 4)):
        few, more = (
            names(runs_of_share(dataclasses.replace(resolved(repeats), share=share)))
            for repeats in (2, 5)
        )
        assert few == [run for run in more if run[1] < 2]


def test_a_family_differs_in_repeat_and_rate_alone():
    found = [names(family) for family in families(resolved().runs)]
    assert found == [
        [("sgdm", 0), ("sgdm", 1), ("twin", 0), ("twin", 1)],
        [("adam", 0), ("adam", 1)],
        [("adam_after", 0)],
        [("adam_after", 1)],
    ]


def test_a_family_is_cut_into_groups():
    family = families(resolved().runs)[0]
    assert [len(group) for group in groups_of(family, 3)] == [3, 1]
    assert [len(group) for group in groups_of(family, 4)] == [4]
