"""Models written twice, in PyTorch and in Flax, with the same weights, batch and loss.

Each loss is the mean cross-entropy of integer targets over all rows of the model's output.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from experiments.benchmarks.pytorch.names import language_paths
from experiments.benchmarks.pytorch.originals import Language
from hgeo.models.layers import EncoderBlock
from hgeo.models.transformer import LanguageModel


@dataclasses.dataclass(frozen=True)
class Case:
    """One model on both sides.

    Attributes:
      outputs: the model in JAX, `outputs(params, batch)` -> logits of shape (rows, classes).
      params: what `loss` takes: the weights of `model`.
      batch: the same inputs and targets as `inputs` and `targets`.
      layers: Flax paths of the weight matrices.
      names: the parameter of `model` behind each Flax path.
      to_flax: for each Flax path, PyTorch's layout of the array -> Flax's.
      model: the model in PyTorch, inputs -> logits of shape (rows, classes).
      inputs: its input.
      targets: integers of shape (rows,).
      has_backpack: whether BackPACK's DiagHessian covers the model.
    """

    outputs: Callable[[Any, Any], jax.Array]
    params: Any
    batch: dict[str, jax.Array]
    layers: list[str]
    names: dict[str, str]
    to_flax: dict[str, Callable[[np.ndarray], np.ndarray]]
    model: torch.nn.Module
    inputs: torch.Tensor
    targets: torch.Tensor
    has_backpack: bool

    def loss(self, params: Any, batch: Any) -> jax.Array:
        """The loss in JAX."""
        return cross_entropy(self.outputs(params, batch), batch)

    def weight(self, path: str) -> torch.nn.Parameter:
        """The PyTorch parameter behind a Flax path."""
        return self.model.get_parameter(self.names[path])

    def torch_positions(self, path: str, indices: Any) -> list[int]:
        """Positions in a flat Flax leaf as positions in the flat PyTorch parameter."""
        weight = self.weight(path)
        places = np.arange(weight.numel()).reshape(tuple(weight.shape))
        return self.to_flax[path](places).ravel()[np.asarray(indices)].tolist()


def cross_entropy(logits: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    """The mean cross-entropy of the batch's targets."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"]))


class Mlp(nn.Module):
    widths: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x):
        for k, width in enumerate(self.widths):
            x = nn.Dense(width, name=f"dense{k}")(x if k == 0 else self.activation(x))
        return x


class ConvNet(nn.Module):
    @nn.compact
    def __call__(self, x_BxHxWxC):
        x = nn.tanh(nn.Conv(4, (3, 3), padding=1, name="conv0")(x_BxHxWxC))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = jax.nn.sigmoid(nn.Conv(5, (2, 2), strides=2, padding=0, name="conv1")(x))
        return nn.Dense(3, name="dense")(x.reshape(len(x), -1))


class Block(nn.Module):
    """Our encoder block under a causal mask; its output's features are taken as logits."""

    @nn.compact
    def __call__(self, x_BxTxD):
        mask_1xTxT = jnp.tril(jnp.ones((x_BxTxD.shape[1],) * 2, bool))[None]
        block = EncoderBlock(2, 12, 0.0, "torch", 1.0, name="block")
        return block(x_BxTxD, mask_1xTxT, True)


class TorchBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.block = torch.nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)

    def forward(self, x_BxTxD):
        length = x_BxTxD.shape[1]
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return self.block(x_BxTxD, src_mask=hidden).flatten(0, 1)


def mlp(dtype: torch.dtype, activation: str) -> Case:
    torch_act, flax_act = {
        "tanh": (torch.nn.Tanh, jnp.tanh),
        "gelu": (torch.nn.GELU, functools.partial(jax.nn.gelu, approximate=False)),
    }[activation]
    linear = torch.nn.Linear
    model = torch.nn.Sequential(linear(9, 8), torch_act(), linear(8, 7), torch_act(), linear(7, 10))
    names = {f"dense{k}": str(2 * k) for k in range(3)}
    inputs = torch.randn(6, 9, dtype=dtype)
    flax = Mlp((8, 7, 10), flax_act)
    return _case(flax, model, names, {}, inputs, _identity, 10, activation == "tanh")


def conv_net(dtype: torch.dtype) -> Case:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        torch.nn.Tanh(),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 5, 2, stride=2),
        torch.nn.Sigmoid(),
        torch.nn.Flatten(),
        torch.nn.Linear(20, 3),
    )
    names = {"conv0": "0", "conv1": "3", "dense": "6"}
    # Flax flattens (2, 2, 5) rows, columns, channels; PyTorch channels, rows, columns.
    reorder = {"dense/kernel": lambda w: w.reshape(3, 5, 2, 2).transpose(2, 3, 1, 0).reshape(20, 3)}
    inputs = torch.randn(5, 2, 8, 8, dtype=dtype)
    last = lambda x: x.transpose(0, 2, 3, 1)
    return _case(ConvNet(), model, names, reorder, inputs, last, 3, True)


def encoder_block(dtype: torch.dtype) -> Case:
    names = {
        "block/attention/out_proj": "block.self_attn.out_proj",
        "block/linear1": "block.linear1",
        "block/linear2": "block.linear2",
        "block/norm1": "block.norm1",
        "block/norm2": "block.norm2",
    }
    in_proj = {
        "block/attention/in_proj/kernel": "block.self_attn.in_proj_weight",
        "block/attention/in_proj/bias": "block.self_attn.in_proj_bias",
    }
    inputs = torch.randn(3, 5, 8, dtype=dtype)
    return _case(Block(), TorchBlock(), names, {}, inputs, _identity, 8, False, in_proj)


class TwiceDifferentiable(Language):
    """Its attention written out: PyTorch's fused kernels have no second derivative."""

    def forward(self, tokens):
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return super().forward(tokens)


def language_model(dtype: torch.dtype) -> Case:
    shape = {"vocabulary_size": 30, "width": 8, "num_heads": 2, "ffn_width": 12, "num_blocks": 1}
    inputs = torch.randint(0, 30, (3, 6))
    model = torch.nn.Sequential(TwiceDifferentiable(30, 8, 2, 12, 1), torch.nn.Flatten(0, 1))
    names = {path: f"0.{name}" for name, path in language_paths(1).items()}
    case = _case(
        LanguageModel(**shape), model.to(dtype), {}, {}, inputs, _identity, 30, False, names
    )
    return dataclasses.replace(case, layers=LanguageModel(**shape).layer_order())


CASES: dict[str, Callable[[torch.dtype], Case]] = {
    "mlp_tanh": functools.partial(mlp, activation="tanh"),
    "mlp_gelu": functools.partial(mlp, activation="gelu"),
    "conv_net": conv_net,
    "encoder_block": encoder_block,
    "language_model": language_model,
}


@functools.cache
def make_case(name: str, dtype: str, seed: int) -> Case:
    """A case in float32 or float64; call it where JAX's dtypes are as wide."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CASES[name](getattr(torch, dtype))


def _case(
    flax, model, modules, reorder, inputs, arrange, classes, has_backpack, parameters=None
) -> Case:
    """Builds a case from PyTorch's weights, which are copied to Flax.

    `modules` names PyTorch's module behind each Flax one, `parameters` single parameters; `reorder`
    is for kernels whose layout is not Flax's usual one, `arrange` for the inputs.
    """
    model = model.to(inputs.dtype) if inputs.is_floating_point() else model
    for parameter in model.parameters():
        if parameter.ndim == 1:  # zeros and ones would hide a bias or scale that is not copied
            torch.nn.init.normal_(parameter, mean=parameter.detach().mean().item(), std=0.2)
    names = dict(parameters or {})
    for path, module in modules.items():
        leaf = "scale" if isinstance(model.get_submodule(module), torch.nn.LayerNorm) else "kernel"
        names |= {f"{path}/{leaf}": f"{module}.weight", f"{path}/bias": f"{module}.bias"}
    assert sorted(names.values()) == sorted(name for name, _ in model.named_parameters())

    to_flax = {path: reorder.get(path, _layout(path)) for path in names}
    params: dict[str, Any] = {}
    for path, name in names.items():
        *parents, leaf = path.split("/")
        place = params
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = jnp.asarray(to_flax[path](model.get_parameter(name).detach().numpy()))

    rows = model(inputs).shape[0]
    targets = torch.randint(0, classes, (rows,))
    batch = {
        "inputs": jnp.asarray(arrange(inputs.numpy())),
        "targets": jnp.asarray(targets.numpy()),
    }

    def outputs(params, batch):
        # Flax's pooling and our float32 position table mix dtypes.
        with jax.numpy_dtype_promotion("standard"):
            return flax.apply({"params": params}, batch["inputs"]).reshape(-1, classes)

    layers = [path for path in names if path.endswith("kernel")]
    return Case(
        outputs, params, batch, layers, names, to_flax, model, inputs, targets, has_backpack
    )


def _layout(path: str) -> Callable[[np.ndarray], np.ndarray]:
    """(out, in) -> (in, out), (out, in, rows, columns) -> (rows, columns, in, out)."""
    if not path.endswith("kernel"):
        return _identity
    return lambda w: w.transpose(2, 3, 1, 0) if w.ndim == 4 else w.T


def _identity(x):
    return x
