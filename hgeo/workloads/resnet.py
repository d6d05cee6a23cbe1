"""Classes of CIFAR-10 images, by a small ResNet with BatchNorm."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hgeo.config import Config
from hgeo.data.cifar10 import NUM_CLASSES, Images, read_cifar10
from hgeo.devices import AXIS
from hgeo.errors import InputError
from hgeo.models.resnet import ResNet
from hgeo.workloads.classification import class_loss, class_metrics
from hgeo.workloads.workload import Workload

BATCH_NORM = ("train", "evaluation")


def resnet(config: Config) -> Workload:
    """The workload `resnet`: a loss of mean nats an image.

    In training, BatchNorm takes the statistics of the whole batch, over all devices. In the probed
    loss `probe.batch_norm` decides: `"train"` takes the probe batch's statistics, so that examples
    depend on each other and `probe.microbatch_size` must be `None`; `"evaluation"` takes the
    running statistics.
    """
    probe, data = config.probe, config.data
    if probe.batch_norm not in BATCH_NORM:
        raise InputError(f"probe.batch_norm must be one of {BATCH_NORM}, not {probe.batch_norm!r}")
    if probe.batch_norm == "train" and probe.microbatch_size is not None:
        raise InputError(
            "probe.microbatch_size must be None where probe.batch_norm is 'train', since each "
            f"microbatch would have other statistics; it is {probe.microbatch_size}"
        )
    train = read_cifar10(config.data_dir, data.split, data.limit)
    held_out = None
    if data.held_out_split:
        held_out = read_cifar10(config.data_dir, data.held_out_split, data.held_out_limit)
    settings = config.model.to_dict() | {"channels": tuple(config.model.channels)}
    settings["blocks"] = tuple(config.model.blocks)
    if len(settings["channels"]) != len(settings["blocks"]):
        raise InputError(
            "model.channels and model.blocks must be of one length, not "
            f"{settings['channels']} and {settings['blocks']}"
        )
    model = ResNet(NUM_CLASSES, axis_name=AXIS, **settings)

    def head(logits, batch):
        return class_loss(logits, batch["labels"])

    def in_training(variables, batch):
        return model.apply(variables, batch["images"], train=True, mutable=["batch_stats"])

    def training_loss(variables, batch):
        logits, updated = in_training(variables, batch)
        return head(logits, batch), updated

    def in_evaluation(variables, batch) -> Any:
        return model.apply(variables, batch["images"])

    def probed_in_training(variables, batch):
        return in_training(variables, batch)[0]

    def metrics(variables, batch):
        return class_metrics(in_evaluation(variables, batch), batch["labels"])

    return Workload(
        init=lambda key: jax.jit(model.init)(key, jnp.zeros((1, 32, 32, 3))),
        outputs=probed_in_training if probe.batch_norm == "train" else in_evaluation,
        head=head,
        training_loss=training_loss,
        metrics=metrics,
        layer_paths=model.layer_order(),
        examples=_arrays(train),
        held_out={} if held_out is None else _arrays(held_out),
        dropout=False,
        sha256=" ".join(images.sha256 for images in (train, held_out) if images is not None),
        notes=(f"the Hessian is that of the loss with BatchNorm in {probe.batch_norm} mode",),
    )


def _arrays(images: Images) -> dict[str, np.ndarray]:
    return {"images": images.images, "labels": images.labels}
