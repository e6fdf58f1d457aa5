"""The model as a user calls it."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fovea
from fovea.config import ConfigError, validate
from fovea.model import FovealModel, assemble
from fovea.recipe import ModelConfig
from fovea.trained import Trained, load_trained


def tiny(channels: int = 3, context: dict | None = None) -> FovealModel:
    torch.manual_seed(0)
    tree = {
        "patch_size": 4,
        "channels": channels,
        "extractor": {"name": "integral"},
        "context": context or {"name": "foveal", "zooms": [0, 1], "grid": 2},
        "vit_context": {"name": "grid", "grid": 3},
        "backbone": {
            "name": "timm_vit", "arch": "vit_tiny_patch16_224", "width": 16, "depth": 1, "heads": 2,
            "state_tokens": 3, "init": "xavier", "mean": [0.5] * channels, "std": [0.25] * channels,
        },
        "policy": {"name": "random"},
    }  # fmt: skip
    return assemble(validate(ModelConfig, tree))


def pixels(height: int = 20, width: int = 30, channels: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@torch.no_grad()
def test_every_kind_of_image_gives_the_same():
    model, array = tiny(), pixels()
    kinds = [array, Image.fromarray(array), torch.from_numpy(array).permute(2, 0, 1), [array]]
    outputs = [model(kind, glimpses=8, generator=generator()) for kind in kinds]
    for output in outputs:
        assert output.embedding.shape == (1, 16)
        assert output.states.shape == (1, 8, 3, 16)
        assert output.gazes.shape == (1, 8, 2)
        assert torch.equal(output.states, outputs[0].states)
        assert torch.equal(output.embedding, output.states[:, -1, 0])


@torch.no_grad()
def test_images_of_a_list_may_differ_in_size_and_do_not_mix():
    model = tiny()
    images = [pixels(20, 30), pixels(64, 16, seed=1), pixels(7, 7, seed=2)]
    together = model(images, glimpses=3, generator=generator())
    assert together.states.shape == (3, 3, 3, 16)
    scene, state = model.prepare(images[1]), model.initial_state(1)
    for t in range(3):
        state = model.glimpse(scene, together.gazes[1:2, t], state)
        torch.testing.assert_close(together.states[1:2, t], state, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.vit(images)[1:2], model.vit(images[1]), rtol=0, atol=1e-5)


@torch.no_grad()
def test_forward_is_the_step_interface_in_a_loop():
    model, images = tiny(), [pixels(), pixels(seed=1)]
    output = model(images, glimpses=4, generator=generator())
    scene, state = model.prepare(images), model.initial_state(2)
    assert len(scene) == 2
    for t in range(4):
        state = model.glimpse(scene, output.gazes[:, t], state)
        assert torch.equal(state, output.states[:, t])


@torch.no_grad()
def test_traces_read_one_scene_as_if_each_had_its_own():
    model, G = tiny(), 3
    images = [pixels(20, 30), pixels(40, 24, seed=1)]
    gaze = torch.rand(2 * G, 2, generator=generator())
    state = torch.randn(2 * G, 3, 16, generator=generator())
    together = model.glimpse(model.prepare(images), gaze, state)
    repeated = model.prepare([image for image in images for _ in range(G)])
    torch.testing.assert_close(model.glimpse(repeated, gaze, state), together, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_an_image_changes_no_embedding(factor):
    """Windows are relative to the image; cells of whole pixels average to the same."""
    model = tiny(context={"name": "multizoom", "zooms": [0, 1, 2]})
    small = pixels(64, 64)  # the finest cell is 64 / 4 / 4 = 4 pixels wide
    large = small.repeat(factor, 0).repeat(factor, 1)
    one, other = (model(image, glimpses=4, generator=generator()) for image in (small, large))
    torch.testing.assert_close(one.embedding, other.embedding, rtol=0, atol=1e-4)
    torch.testing.assert_close(model.vit(small), model.vit(large), rtol=0, atol=1e-4)


@torch.no_grad()
def test_what_is_seen_depends_on_image_gaze_and_state():
    model = tiny()
    scene, state = model.prepare(pixels()), model.initial_state(1)
    gaze = torch.tensor([[0.3, 0.6]])
    seen = model.glimpse(scene, gaze, state)
    assert not torch.allclose(seen, model.glimpse(model.prepare(pixels(seed=9)), gaze, state))
    assert not torch.allclose(seen, model.glimpse(scene, 1 - gaze, state))
    assert not torch.allclose(seen, model.glimpse(scene, gaze, seen))


def test_no_gradient_runs_through_time():
    model = tiny()
    output = model(pixels(), glimpses=2, generator=generator())
    output.embedding[0, 0].backward()
    assert model.backbone.state_tokens.grad is None  # the last glimpse starts from a constant


def test_fewer_than_one_glimpse_is_refused():
    with pytest.raises(ValueError, match="glimpses must be at least 1, got 0"):
        tiny()(pixels(), glimpses=0)


def test_grey_models_take_grey_images_in_every_shape():
    model = tiny(channels=1)
    array = pixels(channels=1)
    with torch.no_grad():
        one, other = (
            model(image, glimpses=1, generator=generator()).embedding
            for image in (array, array[:, :, 0])
        )
    assert torch.equal(one, other)
    with pytest.raises(ValueError, match="channels"):
        model(pixels(channels=3))


def test_the_papers_model_is_vit_s_with_8_state_tokens_and_30_windows():
    model = fovea.build_model("vits16_foveal")
    backbone = model.backbone
    assert not model.training
    assert len(backbone.blocks) == 12
    assert backbone.width == 384
    assert backbone.blocks[0].attn.num_heads == 6
    assert backbone.num_state_tokens == 8
    assert backbone.patch_embed.patch_size == (16, 16)
    assert model.context.num_windows == 30
    assert model.vit_context.num_windows == 256
    assert 21e6 < sum(p.numel() for p in backbone.parameters()) < 23e6


def test_models_are_listed_by_pattern_and_all_shipped_ones_are_known():
    assert fovea.list_models("vits*") == ["vits16_foveal"]
    assert fovea.list_models("nothing*") == []
    assert set(fovea.list_models()) >= {"vitq8_foveal", "vitt16_foveal", "vitb16_foveal"}


def test_unknown_models_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'vits16_foveal'"):
        fovea.build_model("vits16_fovea")


def test_pretrained_without_published_weights_is_an_error():
    with pytest.raises(ValueError, match="vitq8_foveal: no weights are published"):
        fovea.build_model("vitq8_foveal", pretrained=True)


def test_a_model_by_name_takes_other_parts_and_reads_files_through_a_pyramid(tmp_path):
    file = tmp_path / "large.npy"
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 1), dtype=np.uint8)
    np.save(file, pixels)
    model = fovea.build_model("vitq8_foveal", extractor={"name": "pyramid", "cache_mb": 1})
    assert model.prepare(str(file)).sizes.tolist() == [[300, 400]]
    assert model([file, pixels], glimpses=2).embedding.shape[0] == 2
    with pytest.raises(ConfigError, match=r"^model\.extractor.*did you mean 'pyramid'"):
        fovea.build_model("vitq8_foveal", extractor="pyramids")


def test_loading_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no finished stage"):
        fovea.load_model(tmp_path)


def test_gaze_that_does_not_fit_the_scene_is_refused():
    model = fovea.build_model("vitq8_foveal")
    scene = model.prepare([np.zeros((20, 20), np.uint8)] * 2)
    with pytest.raises(ValueError, match="gaze has 3 rows and state 2; the scene's 2 images"):
        model.glimpse(scene, torch.full((3, 2), 0.5), model.initial_state(2))


class Captures:
    """A backend of torch.compile that counts what it is given, and runs it as it is."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        self.graphs += 1
        return graph


@torch.no_grad()
def test_a_compiled_model_gives_the_same_states_for_any_number_of_images():
    plain, compiled = tiny(), tiny()
    compiled.compile(backend="aot_eager")
    images = [pixels(), pixels(40, 24, seed=1), pixels(9, 9, seed=2)]
    for batch in (images[:2], images[:1], images):
        wanted, found = (model(batch, 3, generator()) for model in (plain, compiled))
        torch.testing.assert_close(found.states, wanted.states, rtol=0, atol=1e-5)
        torch.testing.assert_close(compiled.vit(batch), plain.vit(batch), rtol=0, atol=1e-5)
    scene, gaze = plain.prepare(images), torch.rand(6, 2, generator=generator())
    state = torch.randn(6, 3, 16, generator=generator())
    wanted, found = (model.glimpse(scene, gaze, state) for model in (plain, compiled))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_glimpse_is_compiled_once_in_two_graphs_without_the_scene():
    torch.compiler.reset()
    model, captures = tiny(), Captures()
    model.compile(backend=captures)
    model([pixels(), pixels(seed=1)], 4, generator())
    assert captures.graphs == 2  # windows; pixels to state
    model([pixels(70, 50), pixels(30, 80, seed=1)], 4, generator())  # of other sizes
    assert captures.graphs == 2


@torch.no_grad()
def test_states_of_a_compiled_model_are_not_those_that_the_next_glimpse_overwrites():
    """As a CUDA graph does, a backend gives every result the same memory."""
    memory: dict[int, list[torch.Tensor]] = {}

    def reuses(graph: torch.fx.GraphModule, _: object):
        def run(*given: torch.Tensor):
            results = graph(*given)
            kept = memory.setdefault(id(graph), [one.clone() for one in results])
            for here, there in zip(kept, results, strict=True):
                here.copy_(there)
            return kept

        return run

    torch.compiler.reset()
    plain, compiled = tiny(), tiny()
    compiled.compile(backend=reuses)
    wanted, found = (model(pixels(), 3, generator()) for model in (plain, compiled))
    assert len(memory) == 2
    torch.testing.assert_close(found.states, wanted.states, rtol=0, atol=1e-5)
    torch.testing.assert_close(compiled.vit(pixels()), plain.vit(pixels()), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_compiled_model_takes_other_weights_and_its_copies_are_not_compiled():
    model, other, captures = tiny(), tiny(), Captures()
    for weight in other.parameters():
        weight.data += 0.1
    torch.compiler.reset()
    model.compile(backend=captures)
    before = model(pixels(), 2, generator()).states
    model.load_state_dict(copy.deepcopy(other.state_dict()))
    assert model.state_dict().keys() == other.state_dict().keys()
    wanted = other(pixels(), 2, generator()).states
    assert not torch.allclose(wanted, before, atol=1e-3)
    torch.testing.assert_close(model(pixels(), 2, generator()).states, wanted)
    model.load_state_dict({n: one.clone() for n, one in other.state_dict().items()}, assign=True)
    torch.testing.assert_close(model(pixels(), 2, generator()).states, wanted)
    graphs = captures.graphs
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        copied.backbone.state_tokens.data += 1
        assert not torch.allclose(copied([pixels()] * 5, 2, generator()).states[:1], wanted)
    assert captures.graphs == graphs
    model.to(torch.float64).float()
    torch.testing.assert_close(model(pixels(), 2, generator()).states, wanted)
    model.backbone = copy.deepcopy(tiny().backbone)
    torch.testing.assert_close(model(pixels(), 2, generator()).states, before)


def test_a_compiled_model_refuses_to_record_gradients():
    model = tiny()
    model.compile(backend="eager")
    with pytest.raises(ValueError, match="compiled for inference: call it under"):
        model(pixels(), 1)


@pytest.mark.fault
@torch.inference_mode()
def test_by_default_a_model_is_compiled_by_inductor():
    plain, compiled = tiny(), tiny()
    compiled.compile()
    wanted, found = (model(pixels(), 3, generator()) for model in (plain, compiled))
    torch.testing.assert_close(found.states, wanted.states, rtol=0, atol=1e-5)


def test_a_model_that_xformers_trained_loads_where_there_is_none(tmp_path: Path):
    model = tiny()
    settings = model.config.backbone.settings.model_copy(update={"attention": "xformers"})
    component = model.config.backbone.model_copy(update={"settings": settings})
    model.config = model.config.model_copy(update={"backbone": component})
    (tmp_path / "pretrain").mkdir()
    Trained(model).save(tmp_path / "pretrain/trained.pt")
    loaded = load_trained(tmp_path).model
    assert loaded.config.backbone.settings.attention == "auto"
