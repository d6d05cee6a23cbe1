import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hgeo.training.contractions import with_single_contractions


def operands(*shapes):
    random = np.random.default_rng(0)
    return [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes]


def gradients(loss):
    return lambda params, batch: jax.value_and_grad(loss)(params, batch)


def two_layers(params, batch):
    hidden = jax.nn.relu(batch["x"] @ params["first"])
    return jnp.mean(jnp.square(hidden @ params["second"]))


def contracted(function, *arguments):
    """How many axes each product of a traced function sums over, bodies of calls included."""
    text = str(jax.make_jaxpr(function)(*arguments))
    return [len(axes.split(",")) for axes in re.findall(r"dimension_numbers=\(\(\[([^]]*)\]", text)]


@pytest.mark.parametrize("leading", [(6,), (3, 4), (2, 3, 2)])
def test_gradients_are_the_same_and_sum_over_one_axis(leading):
    first, second, x = operands((5, 7), (7, 4), (*leading, 5))
    arguments = {"first": first, "second": second}, {"x": x}
    plain, changed = gradients(two_layers), with_single_contractions(gradients(two_layers))
    assert max(contracted(plain, *arguments)) == len(leading)
    assert set(contracted(changed, *arguments)) == {1}
    assert len(contracted(changed, *arguments)) == len(contracted(plain, *arguments))
    expected, found = plain(*arguments), changed(*arguments)
    assert jax.tree.structure(expected) == jax.tree.structure(found)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), expected, found
    )


@pytest.mark.parametrize(
    ("subscripts", "left", "right"),
    [
        ("abc,abd->cd", (3, 4, 5), (3, 4, 6)),
        ("abc,abde->cde", (3, 4, 5), (3, 4, 6, 2)),
        ("abc,bad->cd", (3, 4, 5), (4, 3, 6)),  # in another order
        ("abc,dbc->ad", (3, 4, 5), (6, 4, 5)),  # not the first axes
        ("eabc,eabd->ecd", (2, 3, 4, 5), (2, 3, 4, 6)),  # with a batch
    ],
)
def test_every_product_keeps_its_values(subscripts, left, right):
    a, b = operands(left, right)
    product = lambda a, b: jnp.einsum(subscripts, a, b)
    np.testing.assert_allclose(
        with_single_contractions(product)(a, b), product(a, b), rtol=1e-4, atol=1e-5
    )


def test_vmapped_and_compiled():
    first, second, x = operands((2, 5, 7), (2, 7, 4), (2, 3, 4, 5))
    arguments = {"first": first, "second": second}, {"x": x}
    found = jax.jit(jax.vmap(with_single_contractions(gradients(two_layers))))(*arguments)
    expected = jax.vmap(gradients(two_layers))(*arguments)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), expected, found
    )


def test_no_transposed_copy_is_compiled():
    w, x, cotangent = operands((16, 4000), (8, 5, 16), (8, 5, 4000))

    def of_kernel(w, x, cotangent):
        return jax.vjp(lambda w: x @ w, w)[1](cotangent)[0]

    copies = lambda function: re.findall(
        r"f32\[4000,8,5\]\S* (?:copy|transpose)\(",
        jax.jit(function).lower(w, x, cotangent).compile().as_text(),
    )
    assert copies(of_kernel)
    assert not copies(with_single_contractions(of_kernel))
