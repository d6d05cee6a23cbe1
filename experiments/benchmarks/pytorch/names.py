"""Paths in hgeo's params by the parameter names of the PyTorch originals."""

_BLOCK = {
    "norm1.weight": "norm1/scale",
    "norm1.bias": "norm1/bias",
    "norm2.weight": "norm2/scale",
    "norm2.bias": "norm2/bias",
    "linear1.weight": "linear1/kernel",
    "linear1.bias": "linear1/bias",
    "linear2.weight": "linear2/kernel",
    "linear2.bias": "linear2/bias",
}


def _attention(theirs, ours):
    return {
        f"{theirs}.in_proj_weight": f"{ours}/in_proj/kernel",
        f"{theirs}.in_proj_bias": f"{ours}/in_proj/bias",
        f"{theirs}.out_proj.weight": f"{ours}/out_proj/kernel",
        f"{theirs}.out_proj.bias": f"{ours}/out_proj/bias",
    }


def _linear(theirs, ours):
    return {f"{theirs}.weight": f"{ours}/kernel", f"{theirs}.bias": f"{ours}/bias"}


def _norm(theirs, ours):
    return {f"{theirs}.weight": f"{ours}/scale", f"{theirs}.bias": f"{ours}/bias"}


def _inside(theirs, ours, paths):
    return {f"{theirs}.{a}": f"{ours}/{b}" for a, b in paths.items()}


def translation_paths(blocks: int) -> dict[str, str]:
    """Of `originals.Translation` and `hgeo.models.seq2seq.Seq2Seq`."""
    decoder = _attention("self_attn", "self_attention")
    decoder |= _attention("multihead_attn", "cross_attention")
    decoder |= _BLOCK | _norm("norm3", "norm3")
    paths = {
        "src_tok_emb.weight": "source_embedding/embedding",
        "tgt_tok_emb.weight": "target_embedding/embedding",
    }
    paths |= _linear("generator", "generator")
    for part, block in (
        ("encoder", _attention("self_attn", "attention") | _BLOCK),
        ("decoder", decoder),
    ):
        paths |= _norm(f"transformer.{part}.norm", f"{part}_norm")
        for n in range(blocks):
            paths |= _inside(f"transformer.{part}.layers.{n}", f"{part}_{n}", block)
    return paths


def language_paths(blocks: int) -> dict[str, str]:
    """Of `originals.Language` and `hgeo.models.transformer.LanguageModel`."""
    paths = {"embedding.weight": "embedding/embedding"} | _linear("linear", "head")
    for n in range(blocks):
        block = _attention("self_attn", "attention") | _BLOCK
        paths |= _inside(f"transformer_encoder.layers.{n}", f"block{n}", block)
    return paths


def resnet_paths() -> dict[str, str]:
    """Of `originals.ResNet` and `hgeo.models.resnet.ResNet`."""
    paths = {"conv.weight": "stem/kernel"} | _norm("bn", "stem_norm") | _linear("fc", "classifier")
    for stage in (1, 2, 3):
        block = {"conv1.weight": "conv1/kernel", "conv2.weight": "conv2/kernel"}
        block |= _norm("bn1", "norm1") | _norm("bn2", "norm2")
        if stage > 1:
            block |= {"downsample.0.weight": "shortcut/kernel"}
            block |= _norm("downsample.1", "shortcut_norm")
        paths |= _inside(f"layer{stage}.0", f"stage{stage}_block0", block)
    return paths
