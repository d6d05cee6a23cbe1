"""When a run trains, on what, and when it is looked at."""

import numpy as np

from hgeo.training.timeline import Timeline


def timeline(**changes):
    given = {"steps": 10, "measured_steps": (0, 4), "checkpoint_every": 0, "batch_size": 3}
    given |= {"num_examples": 11, "seed": 5, "repeat": 0}
    return Timeline(**(given | changes))


def test_an_epoch_takes_each_example_at_most_once_and_the_next_another_order():
    batches = timeline().batches(0, 6)
    assert batches.shape == (6, 3)
    assert batches.dtype == np.int32
    for epoch in (batches[:3], batches[3:]):
        assert len(set(epoch.ravel())) == 9
        assert set(epoch.ravel()) <= set(range(11))
    assert not np.array_equal(batches[:3], batches[3:])


def test_any_part_of_the_updates_sees_the_rows_of_the_whole():
    whole = timeline().batches(0, 10)
    for start, stop in ((0, 1), (1, 5), (2, 10), (7, 8)):
        np.testing.assert_array_equal(timeline().batches(start, stop), whole[start:stop])


def test_repeats_and_seeds_have_orders_of_their_own():
    batches = [timeline(**own).batches(0, 3) for own in ({}, {"repeat": 1}, {"seed": 6})]
    assert not np.array_equal(batches[0], batches[1])
    assert not np.array_equal(batches[0], batches[2])


def test_events_are_what_is_measured_watched_kept_and_last():
    assert timeline().events == [0, 4, 10]
    assert timeline(checkpoint_every=3).events == [0, 3, 4, 6, 9, 10]
    assert timeline(watched_steps=(2,)).events == [0, 2, 4, 10]
    assert timeline(start=4).events == [4, 10]
    assert timeline(watched_steps=(2,)).kept(regular=True) == {0, 4, 10}
    assert timeline(checkpoint_every=5).kept(regular=False) == {0, 4, 10}
    assert timeline().epoch(6) == 2.0


def test_blocks_cover_all_updates_in_order():
    blocks = list(timeline().blocks(3, 2000))
    assert [first for first, _ in blocks[1:]] == [last for _, last in blocks[:-1]]
    assert (blocks[0][0], blocks[-1][1]) == (3, 2000)
