"""The models against their PyTorch originals: same weights, same numbers, same layers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.benchmarks.pytorch import originals
from experiments.benchmarks.pytorch.names import language_paths, resnet_paths, translation_paths
from hgeo.models.resnet import ResNet
from hgeo.models.seq2seq import Seq2Seq, token_loss
from hgeo.models.transformer import LanguageModel
from tests.integration.parity.copying import (
    check_diagonal,
    check_loss_and_gradients,
    check_structure,
    close,
    params_from,
    torch_order,
)

PAD = 1


@pytest.fixture(autouse=True)
def float64():
    """Both sides compute in float64; PyTorch's attention in operations that differentiate twice.

    Flax's own LayerNorm mixes dtypes in float64, so promotion can't be strict here.
    """
    promotion = jax.numpy_dtype_promotion("standard")
    with jax.enable_x64(True), promotion, sdpa_kernel(SDPBackend.MATH):
        torch.manual_seed(0)
        yield


def shuffled(module):
    """The module in float64 with every parameter, norms and biases too, moved at random."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.double()


def mean_loss(model, apply):
    def loss(params, batch):
        logits = apply(model, params, batch)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"]))

    return loss


def test_translation():
    model = Seq2Seq(23, 19, 16, 4, 24, 2, 2, pad_id=PAD)
    module = shuffled(originals.Translation(2, 16, 4, 23, 19, 24))
    random = np.random.default_rng(0)
    source, target = random.integers(4, 23, (4, 7)), random.integers(4, 19, (4, 6))
    source[1, 5:], source[2, 3:], target[0, 4:], target[3, 2:] = PAD, PAD, PAD, PAD
    batch = {"source": jnp.asarray(source, jnp.int32), "target": jnp.asarray(target, jnp.int32)}

    def loss(params, batch):
        logits = model.apply({"params": params}, batch["source"], batch["target"][:, :-1])
        return token_loss(logits, batch["target"][:, 1:], PAD)

    paths = translation_paths(2)
    params = params_from(module, paths)
    check_structure(model, params, batch["source"], batch["target"])
    assert model.layer_order() == [paths[name] for name in torch_order(module)]
    assert len(model.layer_order()) == 21

    source, target = torch.as_tensor(source), torch.as_tensor(target)
    logits = module(source, target[:, :-1], PAD)
    ours = model.apply({"params": params}, batch["source"], batch["target"][:, :-1])
    close(ours, logits.detach().numpy(), 1e-4)
    value = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD
    )
    check_loss_and_gradients(loss, params, batch, module, value, paths)
    check_diagonal(loss, params, batch, module, value, paths, model.layer_order())


def test_translation_layers_at_paper_scale():
    with torch.device("meta"):
        module = originals.Translation(3, 512, 8, 19, 17, 512)
    paths = translation_paths(3)
    order = Seq2Seq(19, 17, 512, 8, 512, 3, 3).layer_order()
    assert order == [paths[name] for name in torch_order(module)]
    assert len(order) == 31


def test_language_model():
    model = LanguageModel(29, 16, 2, 20, 2)
    module = shuffled(originals.Language(29, 16, 2, 20, 2))
    tokens = np.random.default_rng(1).integers(0, 29, (4, 8))
    batch = {
        "tokens": jnp.asarray(tokens[:, :-1], jnp.int32),
        "labels": jnp.asarray(tokens[:, 1:], jnp.int32),
    }
    apply = lambda model, params, batch: model.apply({"params": params}, batch["tokens"])
    paths = language_paths(2)
    params = params_from(module, paths)
    check_structure(model, params, batch["tokens"])
    assert model.layer_order() == [paths[name] for name in torch_order(module)]
    assert len(model.layer_order()) == 9

    tokens = torch.as_tensor(tokens)
    logits = module(tokens[:, :-1])
    close(apply(model, params, batch), logits.detach().numpy(), 1e-4)
    value = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss = mean_loss(model, apply)
    check_loss_and_gradients(loss, params, batch, module, value, paths)
    check_diagonal(loss, params, batch, module, value, paths, model.layer_order())


def running_statistics(module):
    """PyTorch's running statistics in the places where Flax keeps its own."""
    stats = {}
    for theirs, ours in resnet_paths().items():
        if not ours.endswith("scale"):
            continue
        *parents, last = ours.split("/")[:-1]
        place = stats
        for part in parents:
            place = place.setdefault(part, {})
        buffers = module.get_submodule(theirs.removesuffix(".weight"))
        place[last] = {
            "mean": jnp.asarray(buffers.running_mean.clone().numpy()),
            "var": jnp.asarray(buffers.running_var.clone().numpy()),
        }
    return stats


@pytest.mark.parametrize("train", [True, False])
def test_resnet(train):
    model = ResNet()
    module = shuffled(originals.ResNet()).train(train)
    for buffer in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        buffer.running_mean.add_(0.3 * torch.randn_like(buffer.running_mean))
        buffer.running_var.mul_(1 + torch.rand_like(buffer.running_var))
    random = np.random.default_rng(2)
    images, labels = random.normal(size=(4, 32, 32, 3)), random.integers(0, 10, 4)
    batch = {"images": jnp.asarray(images), "labels": jnp.asarray(labels, jnp.int32)}
    stats = running_statistics(module)
    paths = resnet_paths()
    params = params_from(module, paths)
    check_structure(model, params, batch["images"])
    assert model.layer_order() == [paths[name] for name in torch_order(module)]
    assert len(model.layer_order()) == 10

    def apply(model, params, batch):
        variables = {"params": params, "batch_stats": stats}
        if not train:
            return model.apply(variables, batch["images"])
        return model.apply(variables, batch["images"], train=True, mutable=["batch_stats"])[0]

    logits = module(torch.as_tensor(images.transpose(0, 3, 1, 2)))
    close(apply(model, params, batch), logits.detach().numpy(), 1e-4)
    value = torch.nn.functional.cross_entropy(logits, torch.as_tensor(labels))
    loss = mean_loss(model, apply)
    check_loss_and_gradients(loss, params, batch, module, value, paths)
    check_diagonal(loss, params, batch, module, value, paths, model.layer_order())
    if train:
        variables = {"params": params, "batch_stats": stats}
        _, ours = model.apply(variables, batch["images"], train=True, mutable=["batch_stats"])
        check_running_statistics(stats, ours["batch_stats"], running_statistics(module))


def check_running_statistics(before, ours, theirs):
    """Equal to PyTorch's but for the variance's n / (n − 1), which the model states."""
    sizes = {"stem_norm": 4 * 32 * 32, "stage1": 4 * 32 * 32}
    sizes |= {"stage2": 4 * 16 * 16, "stage3": 4 * 8 * 8}
    leaves = lambda tree: {
        jax.tree_util.keystr(keys, simple=True, separator="/"): np.asarray(leaf)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    before, ours, theirs = leaves(before), leaves(ours), leaves(theirs)
    assert set(ours) == set(theirs)
    for path, new in ours.items():
        if path.endswith("var"):
            n = sizes[path.split("/")[0].split("_block")[0]]
            new = 0.9 * before[path] + (new - 0.9 * before[path]) * n / (n - 1)
        close(new, theirs[path], 1e-6, path)


def test_parameter_counts_at_paper_scale():
    count = lambda module: sum(p.numel() for p in module.parameters())

    def own(model, *inputs):
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))["params"]
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    tokens = jnp.zeros((1, 4), jnp.int32)
    with torch.device("meta"):
        translation = count(originals.Translation(3, 512, 8, 19214, 10837, 512))
        language = count(originals.Language(28782, 200, 2, 200, 2))
        resnet = count(originals.ResNet())
    assert own(Seq2Seq(19214, 10837, 512, 8, 512, 3, 3), tokens, tokens) == translation
    assert own(LanguageModel(28782, 200, 2, 200, 2), tokens) == language
    assert own(ResNet(), jnp.zeros((1, 32, 32, 3))) == resnet
    assert (translation, language, resnet) == (33_570_389, 12_025_582, 98_522)
