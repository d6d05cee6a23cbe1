"""Values recomputed piece by piece: the same numbers, in less memory, as `jax.checkpoint` asks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hgeo
from hgeo.devices import compiler_options, make_mesh
from hgeo.second_order.jaxpr import trace
from hgeo.second_order.pieces import Pieces
from tests.probes.dense import diagonals, quick, slow, wide_case
from tests.probes.test_oracle import check, draw
from tests.second_order.test_segments import blocks, check_over_devices, truth

QUICKER = ("attention", "tied_autoencoder")
OTHERS = (
    *("gelu_mlp", "encoder_block", "decoder_block", "recurrence", "scanned_stack", "batch_norm"),
    *("weight_norm", "convolution"),
)


def recomputed(*given, **options):
    return hgeo.sampled_diagonal(*given, **options, mode="adjoint_weighted", remat="block")


@pytest.mark.parametrize("family", slow((*QUICKER, *OTHERS), OTHERS))
def test_every_family_agrees_with_the_dense_hessian(family):
    with jax.enable_x64(True):
        probe = quick(functools.partial(recomputed, wide_case(family).loss, chunk_size=3))
        for seed in (0, 1):
            case = wide_case(family, seed)
            chosen = draw(case.layers, seed)
            found = probe(case.params, case.batch, chosen)
            check(found, diagonals(family, seed), chosen, 1e-10, 1e-9, np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [2, "auto"])
def test_a_deep_network_agrees_with_the_dense_hessian(chunk):
    with jax.enable_x64(True):
        loss, params, batch, layers = blocks(9, width=3, seed=1)
        chosen = draw(layers, 1)
        found = quick(lambda p, b: recomputed(loss, p, b, chosen, chunk_size=chunk))(params, batch)
        check(found, truth(loss, params, batch, layers), chosen, 1e-10, 1e-9, np.float64)


def plain(block):
    return block


def deep(depth, wrap=plain, width=16):
    """Residual blocks without anything that all of them read, and their first matrix."""
    keys = jax.random.split(jax.random.key(0), 2 * depth)
    params = {
        f"block_{k:02}": {
            "up": jax.random.normal(keys[2 * k], (width, 4 * width)) / 4,
            "down": jax.random.normal(keys[2 * k + 1], (4 * width, width)) / 8,
        }
        for k in range(depth)
    }

    def block(own, x):
        x = x - jnp.mean(x, axis=-1, keepdims=True)
        return x + jax.nn.gelu(x @ own["up"]) @ own["down"]

    def loss(params, batch):
        x = batch
        for own in params.values():
            x = wrap(block)(own, x)
        return jnp.mean(jnp.logaddexp(x, 0.0))

    return loss, params, jax.random.normal(jax.random.key(1), (64, width))


@functools.cache
def temporaries(depth, wrap=plain, **options):
    loss, params, batch = deep(depth, wrap)
    layers = hgeo.find_layers(params, ["block_00/up"])
    chosen = hgeo.sample_coordinates(layers, 8, jax.random.key(2))
    asked = compiler_options(make_mesh(jax.devices()[:1]), ())
    probe = lambda p, b: hgeo.sampled_diagonal(loss, p, b, chosen, **options)
    compiled = jax.jit(probe, compiler_options=asked).lower(params, batch).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_root_of_the_depth():
    kept = [temporaries(depth) for depth in (6, 24)]
    few = [temporaries(depth, remat="block") for depth in (6, 24)]
    assert kept[1] > 3.5 * kept[0]
    assert few[1] < 2.2 * few[0]
    assert few[1] < kept[1] / 3


def test_a_checkpoint_in_the_loss_is_respected():
    with_checkpoints = temporaries(24, jax.checkpoint)
    assert with_checkpoints <= 1.05 * temporaries(24, remat="block")
    assert temporaries(24, jax.checkpoint, remat="none") > 3 * with_checkpoints


@pytest.mark.slow
def test_no_piece_is_large_and_no_start_is_wide():
    loss, params, batch = deep(16)
    leaves, tree = jax.tree.flatten(params)
    program = trace(lambda *leaves: loss(tree.unflatten(leaves), batch), *leaves)
    pieces = Pieces(program, leaves)
    assert 4 <= len(pieces) <= 16
    sizes = np.diff([0, *pieces.positions, len(program.equations)])
    assert max(sizes) < 3 * min(sizes)
    # Between two blocks nothing but the residual stream lives.
    assert all(len(pieces._live[position]) == 1 for position in pieces.positions)


@pytest.mark.slow
def test_directions_agree_too():
    with jax.enable_x64(True):
        loss, params, batch, layers = blocks(5)
        directions = {
            name: hgeo.Directions(layer, jax.random.normal(jax.random.key(3), (5, layer.size)))
            for name, layer in layers.items()
        }
        forms = functools.partial(hgeo.quadratic_forms, loss, directions=directions)
        found, expected = (
            quick(lambda p, b, remat=remat: forms(p, b, remat=remat))(params, batch)
            for remat in ("block", "none")
        )
        for name in layers:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-10)


@pytest.mark.slow
def test_over_devices_with_collectives():
    check_over_devices(chunk_size=3, remat="block")


@pytest.mark.slow
def test_inside_vmap_and_with_microbatches():
    loss, params, batch = deep(4)
    chosen = hgeo.sample_coordinates(hgeo.find_layers(params), 3, jax.random.key(2))
    expected = quick(lambda p, b: hgeo.sampled_diagonal(loss, p, b, chosen))(params, batch)
    stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    probe = lambda p, b: recomputed(loss, p, b, chosen, microbatch_size=16)
    found = quick(jax.vmap(probe, in_axes=(0, None)))(stacked, batch)
    for name, entries in expected.items():
        scale = float(jnp.max(jnp.abs(entries)))
        np.testing.assert_allclose(found[name][0], entries, atol=1e-4 * scale)


def test_bad_arguments():
    loss, params, batch = deep(2)
    chosen = hgeo.sample_coordinates(hgeo.find_layers(params), 3, jax.random.key(2))
    with pytest.raises(ValueError, match=r"remat must be one of .*'block'.*, not 'blocks'"):
        hgeo.sampled_diagonal(loss, params, batch, chosen, remat="blocks")
    with pytest.raises(ValueError, match=r"remat must be one of .*, not 'blocks'"):
        hgeo.make_probe(loss, chosen, remat="blocks")
    with pytest.raises(ValueError, match=r"remat must be one of .*, not 'blocks'"):
        hgeo.Monitor(loss, hgeo.find_layers(params), every=1, remat="blocks")
    with pytest.raises(ValueError, match="remat='block' needs adjoint-weighted mode, but forward"):
        hgeo.sampled_diagonal(
            loss, params, batch, chosen, mode="forward_over_reverse", remat="block"
        )
