"""Networks on a device held against the CPU in float32, and the contract kit there."""

import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fovea
from fovea import create, registry, testing
from fovea.bench.gpu_kernels import apart, largest, within
from fovea.bench.limits import NotMeasured, Verdict
from fovea.bench.parts import Finding, Setting
from fovea.bench.photos import Photos, read_photos
from fovea.bench.train import write_photos
from fovea.bench.train_ours import OurTraining, Ready
from fovea.bench.train_step import Plan
from fovea.images import Array
from fovea.interfaces import Loss
from fovea.model import FovealModel
from fovea.recipe import model_tree
from fovea.testing.second_device import waits as waiting

_FLOAT32 = 1e-4  # relative: sums in another order, through all blocks
_GRADIENT = 1e-3
_BFLOAT16 = 0.05  # relative: 8 bits of mantissa, through all blocks
_BATCH = 6
_GLIMPSES = 3
_KINDS = (
    *("patch_extractor", "context_builder", "backbone", "ssl_objective", "gaze_policy"),
    "task_head",
)
_QUICK_KINDS = ("context_builder", "backbone", "task_head")
_SMALL: Mapping[str, Mapping[str, Any]] = {
    "timm_vit": {"arch": "vit_tiny_patch16_224", "width": 24, "depth": 2, "heads": 2},
    "dino_seq2global": {
        "glimpses": 3,
        "locals": 2,
        "global_crop": {"grid": 3, "scale": [0.32, 1.0]},
        "local_crop": {"grid": 2, "scale": [0.05, 0.32]},
        "head": {"hidden": 16, "bottleneck": 8, "prototypes": 12},
    },
    "gmm": {"depth": 1},
    "transformer": {"heads": 2},
}


def networks(setting: Setting) -> Iterator[Finding]:
    """Check a model's states and gradients, a policy's, and a whole pretraining loss."""
    yield Finding(checks=tuple(_model(setting)))
    yield Finding(checks=tuple(_policy(setting.device)))
    yield Finding(checks=tuple(_pretraining(setting)))


def contract(setting: Setting) -> Iterator[Finding]:
    """Hold our own components to the contract kit, whose rules about devices find the GPU."""
    for kind in _QUICK_KINDS if setting.quick else _KINDS:
        for name in registry.names(kind):
            if registry.lookup(kind, name).plugin.name == "builtin":
                getattr(testing, f"check_{kind}")(name, **_SMALL.get(name, {}))
    yield Finding()


def waits(setting: Setting) -> Iterator[Finding]:
    """Count where the host waits for the device: once in a step at most, never in a glimpse."""
    if setting.device != "cuda":
        raise NotMeasured("only a GPU can be waited for")
    training = OurTraining(plan_of(setting).recipe(("device=cuda", "precision=bfloat16")))
    batch = training.batch()
    for index in range(3):  # kernels are compiled, averages are made
        training.step(index, batch)
    with waiting() as of_step:
        training.step(3, batch)
    model = fovea.build_model("vitt16_foveal").cuda()
    with torch.inference_mode():
        scene, state = model.prepare(list(pictures(setting).values())), model.initial_state(_BATCH)
        gaze = torch.rand(_BATCH, 2, device="cuda")
        model.glimpse(scene, gaze, state)
        with waiting() as of_glimpse:
            model.glimpse(scene, gaze, state)
    for where, lines in (("step", of_step), ("glimpse", of_glimpse)):
        print(where, *lines, sep="\n  ")
    yield Finding(
        checks=(
            within("times that the host waits in a training step", len(of_step), 1),
            within("times that the host waits in a glimpse", len(of_glimpse), 0),
        )
    )


def xformers(setting: Setting) -> Iterator[Finding]:
    """Compare attention by xformers, where it can be had, with torch's."""
    if setting.device != "cuda":
        raise NotMeasured("xformers needs a GPU")
    if importlib.util.find_spec("xformers") is None:
        raise NotMeasured("xformers is not installed")
    found = []
    for attention in ("xformers", "sdpa"):
        torch.manual_seed(0)
        try:
            settings = {**model_tree("vitt16_foveal")["backbone"], "attention": attention}
            model = fovea.build_model("vitt16_foveal", backbone=settings)
            with torch.autocast("cuda", torch.bfloat16):
                found.append(_states(model.cuda(), setting))
        except (ValueError, NotImplementedError) as error:  # it has no kernels for this torch
            raise NotMeasured(str(error).splitlines()[0]) from error
    yield Finding(checks=(within("states, xformers and sdpa, relative", apart(*found), _BFLOAT16),))


def compiled(setting: Setting) -> Iterator[Finding]:
    """Compare model.compile() and pretrain.compile=true with what they compile."""
    if setting.quick:
        raise NotMeasured("it takes minutes, and this is a quick run")
    found = []
    for is_compiled in (False, True):
        torch.manual_seed(0)
        model = fovea.build_model("vitt16_foveal").to(setting.device)
        if is_compiled:
            model.compile()
        with torch.inference_mode():
            found.append(_states(model, setting))
    yield Finding(checks=(within("states, compiled, relative", apart(*found), _GRADIENT),))
    plain, drawn = _loss(setting, setting.device, None)
    fast, _ = _loss(setting, setting.device, drawn, "pretrain.compile=true")
    losses = apart(fast[0], plain[0]), apart(fast[1], plain[1])
    yield Finding(
        checks=(
            within("loss, pretrain.compile=true, relative", losses[0], _GRADIENT),
            within("gradients, pretrain.compile=true, relative", losses[1], 0.01),
        )
    )


def _model(setting: Setting) -> Iterator[Verdict]:
    name = "vitq8_foveal" if setting.quick else "vits16_foveal"
    torch.manual_seed(0)
    model = fovea.build_model(name)
    wanted = _states(model, setting)
    slow = _gradients(model, wanted)
    model.to(setting.device)
    found = _states(model, setting)
    yield within("states, float32, relative", apart(found, wanted), _FLOAT32)
    yield within("gradients, float32, relative", apart(_gradients(model, found), slow), _GRADIENT)
    with torch.autocast(setting.device, torch.bfloat16):
        reduced = _states(model, setting)
    yield within("states, bfloat16, relative", apart(reduced, wanted), _BFLOAT16)


def _policy(device: str) -> Iterator[Verdict]:
    """Compare the log-probabilities that GRPO weighs, and their gradients."""
    found, gradients = [], []
    gaze = torch.rand(8, 2, generator=torch.Generator().manual_seed(0))
    state = torch.randn(8, 3, 24, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    policy = create("gaze_policy", "gmm", width=24, num_state_tokens=3, depth=2, heads=2).eval()
    for where in ("cpu", device):
        policy.to(where)
        found.append(policy(state.to(where)).log_prob(gaze.to(where)))
        gradients.append(_gradients(policy, found[-1]))
    yield within("log-probabilities of a policy", largest(found[1], found[0]), _FLOAT32)
    yield within("gradients of a policy, relative", apart(gradients[1], gradients[0]), _GRADIENT)


def _pretraining(setting: Setting) -> Iterator[Verdict]:
    """Compare the loss of a pretraining step and its gradients, of the same views."""
    slow, views = _loss(setting, "cpu", None)
    fast, _ = _loss(setting, setting.device, views)
    yield within("pretraining loss, float32, relative", apart(fast[0], slow[0]), _FLOAT32)
    yield within("pretraining gradients, float32, relative", apart(fast[1], slow[1]), _GRADIENT)
    reduced, _ = _loss(setting, setting.device, views, "precision=bfloat16")
    yield within("pretraining loss, bfloat16, relative", apart(reduced[0], slow[0]), _BFLOAT16)
    yield within("pretraining gradients, bfloat16, relative", apart(reduced[1], slow[1]), 0.2)


def _loss(
    setting: Setting, device: str, views: Ready | None, *changes: str
) -> tuple[tuple[Tensor, Tensor], Ready]:
    """Compute the loss of some views and its gradients, all in one; draw the views first."""
    settings = (f"device={device}", "precision=float32", "model.backbone.drop_path=0", *changes)
    training = OurTraining(plan_of(setting).recipe(settings))
    batch = training.batch()
    training.draw_beforehand(batch, views)
    reduced = training.recipe.precision == "bfloat16"
    with torch.autocast(device, torch.bfloat16, enabled=reduced):
        loss: Loss = training.loss(batch)
    gradients = _gradients(training.stage, loss.total)
    assert isinstance(training.objective.views, Ready)
    return (loss.total, gradients), training.objective.views


def plan_of(setting: Setting) -> Plan:
    """Make a plan of small steps, on photographs that are written for it."""
    folder = Path(tempfile.mkdtemp(dir=setting.folder)) / "photos"
    write_photos(pictures(setting), 256, _BATCH, folder)
    return Plan("cpu", folder, _BATCH, 0, setting.threads, setting.quick)


def pictures(setting: Setting) -> Photos:
    """Read photographs; where there are none, draw some."""
    try:
        return read_photos(setting.photos)
    except ValueError:
        if setting.photos is not None:
            raise
    return {f"drawn {number}": _drawn(number) for number in range(_BATCH)}


def _drawn(number: int) -> Array:
    """Draw waves with a little noise, uint8 [H, W, 3]."""
    noise, (y, x) = np.random.default_rng(number), np.mgrid[0:480, 0:640]
    waves = [np.sin(x / (20 + 9 * c) + number) + np.cos(y / (30 + 5 * c)) for c in range(3)]
    pixels = 128 + 50 * np.stack(waves, axis=-1) + noise.normal(0, 6, (480, 640, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def _states(model: FovealModel, setting: Setting) -> Tensor:
    """Look at pictures where nothing is drawn -> states of glimpses and ViT mode [2, B, K, D]."""
    images = [image[: 200 + 60 * i] for i, image in enumerate(pictures(setting).values())]
    if model.config.channels == 1:
        images = [image[..., :1] for image in images]
    scene = model.prepare(images)
    state = model.initial_state(len(images))
    generator = torch.Generator().manual_seed(0)
    for _ in range(_GLIMPSES):
        gaze = torch.rand(len(images), 2, dtype=torch.float64, generator=generator)
        state = model.glimpse(scene, gaze.to(model.device), state)
    return torch.stack([state, model.vit_state(scene)]).float()


def _gradients(module: nn.Module, output: Tensor) -> Tensor:
    """Return the gradients of all parameters, one after the other."""
    module.zero_grad()
    output.square().mean().backward()
    gradients = [one.grad for one in module.parameters() if one.grad is not None]
    return torch.cat([one.flatten().cpu() for one in gradients])
