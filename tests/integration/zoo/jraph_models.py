"""Jraph: graph networks, which gather from nodes and sum segments of edges."""

import jax
import jax.numpy as jnp
import jraph

import hgeo
from tests.integration.zoo.inputs import draws
from tests.probes.families import Case


def _graphs(draw):
    """Two graphs of 3 and 4 nodes as one, with messages both within and over a cycle."""
    return jraph.GraphsTuple(
        nodes=draw(7, 3),
        edges=draw(8, 2),
        senders=jnp.array([0, 1, 2, 0, 3, 4, 5, 6]),
        receivers=jnp.array([1, 2, 0, 2, 4, 5, 6, 3]),
        n_node=jnp.array([3, 4]),
        n_edge=jnp.array([4, 4]),
        globals=draw(2, 2),
    )


def graph_network(key):
    """Two rounds of edge, node and global updates."""
    draw = draws(key)
    sizes = {"edge": (10, 2), "node": (9, 3), "globals": (7, 2)}
    params = [{name: draw(*size) for name, size in sizes.items()} for _ in range(2)]
    batch = {"graph": _graphs(draw), "y": draw(2, 2)}

    def loss(params, batch):
        graph = batch["graph"]
        for layer in params:
            update = lambda name, layer=layer: (
                lambda *parts: jnp.tanh(jnp.concatenate(parts, axis=-1) @ layer[name])
            )
            network = jraph.GraphNetwork(update("edge"), update("node"), update("globals"))
            graph = network(graph)
        return jnp.mean((graph.globals - batch["y"]) ** 2)

    return Case(loss, params, batch, hgeo.find_layers(params))


def graph_attention(key):
    """Two layers of graph attention: a softmax over the edges of each node."""
    draw = draws(key)
    params = [{"query": draw(3, 4), "logit": draw(10, 1), "node": draw(4, 3)} for _ in range(2)]
    batch = {"graph": _graphs(draw), "y": draw(7, 3)}

    def loss(params, batch):
        graph = batch["graph"]
        for layer in params:

            def logit(sent, received, edges, layer=layer):
                pair = jnp.concatenate([sent, received, edges], axis=-1)
                return jax.nn.leaky_relu(pair @ layer["logit"])

            network = jraph.GAT(
                lambda nodes, layer=layer: nodes @ layer["query"],
                logit,
                lambda nodes, layer=layer: jax.nn.elu(nodes @ layer["node"]),
            )
            graph = network(graph)
        return jnp.mean((graph.nodes - batch["y"]) ** 2)

    return Case(loss, params, batch, hgeo.find_layers(params))


MODELS = {model.__name__: model for model in (graph_network, graph_attention)}
