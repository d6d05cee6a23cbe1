"""A decoder in Flax NNX, whose arrays lie where rules for its logical axes say."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

WIDTH, WIDE, VOCABULARY = 8, 16, 24
RULES = {"embed": "fsdp", "mlp": "tensor", "heads": "tensor", "vocabulary": "tensor"}


def _linear(rows, columns, axes, rngs):
    init = nnx.with_partitioning(nnx.initializers.lecun_normal(), axes, eager_sharding=False)
    return nnx.Linear(rows, columns, use_bias=False, kernel_init=init, rngs=rngs)


class Decoder(nnx.Module):
    """One block between an embedding and a head."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.mixed = _linear(WIDTH, 3 * WIDTH, ("embed", "heads"), rngs)
        self.out = _linear(WIDTH, WIDTH, ("heads", "embed"), rngs)
        self.up = _linear(WIDTH, WIDE, ("embed", "mlp"), rngs)
        self.down = _linear(WIDE, WIDTH, ("mlp", "embed"), rngs)
        self.head = _linear(WIDTH, VOCABULARY, ("embed", "vocabulary"), rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        query, key, value = jnp.split(self.mixed(x), 3, axis=-1)
        scores = jnp.einsum("btd,bsd->bts", query, key)
        seen = jnp.tril(jnp.ones(scores.shape, bool))
        x = x + self.out(jax.nn.softmax(jnp.where(seen, scores, -1e9)) @ value)
        return self.head(x + self.down(nnx.gelu(self.up(x))))


def decoder():
    """The loss of an `nnx.State` of params, and the state."""
    graph, params = nnx.split(Decoder(nnx.Rngs(0)))

    def loss(params, batch):
        logits = nnx.merge(graph, params)(batch["tokens"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        return jnp.mean(losses)

    return loss, params


def by_rules(params, mesh):
    """The params where the rules lay them."""
    specs = nnx.get_partition_spec(params)
    of = lambda spec: PartitionSpec(*(RULES.get(name) for name in spec))
    is_spec = lambda node: isinstance(node, PartitionSpec)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, of(spec)), specs, is_leaf=is_spec)
    return jax.device_put(params, shardings)
