"""A monitor's bad input: each error has the value given and the values allowed."""

import optax
import pytest

from tests.measure.quadratic import BATCH, PARAMS, monitor

ADAM = optax.adam(0.1)

ARGUMENTS = {
    "every": (lambda: monitor(every=0), "every must be .* at least 1, not 0"),
    "num": (lambda: monitor(num="3"), "num must be a whole number, not '3'"),
    "a seed": (lambda: monitor(key=0), "PRNG key .* not 0"),
    "layers": (lambda: monitor(layers=["w"]), "hgeo.find_layers gives.* not a list"),
    "statistics": (lambda: monitor(statistics=("r_mid",)), "did you mean 'r_med'"),
    "one twice": (lambda: monitor(statistics=("r_med", "r_med")), "must name each statistic once"),
    "no names": (lambda: monitor(statistics=3), "must name some of .* not 3"),
    "three functions": (lambda: monitor(loss=(abs, abs, abs)), "or a pair .outputs, head"),
    "name": (lambda: monitor(name=3), "name must be one line of text, not 3"),
    "repeat": (lambda: monitor(repeat="a"), "repeat must be a whole number .* not 'a'"),
    "steps_per_epoch": (lambda: monitor(steps_per_epoch=0), "above 0, or None, not 0"),
    "callback": (lambda: monitor(callback="log"), "must be a function .* not 'log'"),
    "devices": (lambda: monitor(devices=2), "must be a list of devices .* not 2"),
    "eps": (lambda: monitor(eps="0"), "eps must be a number, not '0'"),
    "an option": (lambda: monitor(chunk=3), "no option 'chunk'; it has mode, chunk_size"),
    "optimizer": (lambda: monitor(optimizer="adam"), "one of Optax, .* not 'adam'"),
    "preconditioner": (lambda: monitor(preconditioner=0.9), "such as .* not 0.9"),
    "a constant": (
        lambda: monitor(preconditioner={"beta2": 0.9}), "takes eps, eps_root, b2, kind, not 'beta2'"
    ),
    "workdir": (lambda: monitor(workdir=3), "the path of a folder, or None, not 3"),
    "fisher of a loss": (
        lambda: monitor(statistics=("fisher",))(0, PARAMS, BATCH), "a pair .outputs, head"
    ),
    "a step back from zero": (lambda: monitor()(-1, PARAMS, BATCH), "0 or more, not -1"),
    "half a step": (lambda: monitor()(0.5, PARAMS, BATCH), "an integer .* not 0.5"),
    "no batch": (lambda: monitor()(0, PARAMS), "no batch was given"),
    "a state of another optimizer": (
        lambda: monitor(statistics=("alignment",), optimizer=ADAM)(
            0, PARAMS, BATCH, optimizer_state=optax.sgd(0.1, 0.9).init(PARAMS)
        ),
        "must be a state of the monitor's optimizer, .*ScaleByAdamState.* not .*TraceState",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", ARGUMENTS)
def test_arguments(mistake):
    call, message = ARGUMENTS[mistake]
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "below"):
        with pytest.raises(ValueError, match=r"workdir=.* must be a folder, but .*file is a file"):
            monitor(workdir=folder)
    with pytest.raises(ValueError, match="must be a folder, but is a file"):
        monitor(tensorboard=file)


def test_two_monitors_of_one_name_do_not_overwrite_each_other(tmp_path):
    first, second = (monitor(workdir=tmp_path) for _ in range(2))
    first(0, PARAMS, BATCH)
    before = (tmp_path / "geometry.csv").read_text()
    with pytest.raises(ValueError, match="step 0, name 'monitor', repeat 0 of another monitor"):
        second(0, PARAMS, BATCH)
    assert (tmp_path / "geometry.csv").read_text() == before
    monitor(workdir=tmp_path)(0, PARAMS, BATCH)  # goes on with the folder
    assert (tmp_path / "geometry.csv").read_text() == before
