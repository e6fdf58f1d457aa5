"""The backbone against timm's own modules, and what it refuses."""

import copy
import pickle

import pytest
import timm
import torch

import fovea
from fovea.backbone.config import TimmViTConfig
from fovea.backbone.timm_vit import TimmViT

OURS = ("patch_embed.", "blocks.", "norm.")


def build(patch_size: int = 4, channels: int = 3, **settings: object) -> TimmViT:
    torch.manual_seed(0)
    tree = {
        "arch": "vit_tiny_patch16_224", "width": 24, "depth": 2, "heads": 3, "state_tokens": 3,
        "mean": (0.5,) * channels, "std": (0.25,) * channels, **settings,
    }  # fmt: skip
    return TimmViT(TimmViTConfig(**tree), patch_size=patch_size, channels=channels).eval()


def glimpse(B: int = 2, N: int = 5, C: int = 3, P: int = 4):
    g = torch.Generator().manual_seed(1)
    windows = torch.rand(B, N, 3, generator=g, dtype=torch.float64)
    return torch.rand(B, N, C, P, P, generator=g), windows


def picture():
    """Two scenes of 4-pixel patches."""
    extractor = fovea.create("patch_extractor", "integral", patch_size=4)
    generator = torch.Generator().manual_seed(2)
    pixels = torch.randint(256, (2, 3, 20, 30), generator=generator, dtype=torch.uint8)
    return extractor.prepare(list(pixels))


def peer(**settings: object):
    torch.manual_seed(1)
    return timm.create_model("vit_tiny_patch16_224", **settings).eval()


def test_timm_weights_load_under_their_own_names():
    vit, ours = peer(), build(patch_size=16, width=None, depth=None, heads=None)
    theirs = {k: v for k, v in vit.state_dict().items() if k.startswith(OURS)}
    assert {k for k in ours.state_dict() if k.startswith(OURS)} == theirs.keys()
    result = ours.load_state_dict(vit.state_dict(), strict=False)
    assert not [key for key in result.missing_keys if key.startswith(OURS)]
    assert set(result.unexpected_keys) == {"cls_token", "pos_embed", "head.weight", "head.bias"}
    assert all(torch.equal(ours.state_dict()[key], value) for key, value in theirs.items())


def test_embed_equals_timms_convolution_of_the_image_cut_into_patches():
    vit = peer()
    ours = build(patch_size=16, width=None, depth=1, heads=None, mean=(0.0,) * 3, std=(1.0,) * 3)
    ours.patch_embed.load_state_dict(vit.patch_embed.state_dict())
    image = torch.rand(2, 3, 224, 224)
    patches = image.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    torch.testing.assert_close(ours.embed(patches), vit.patch_embed(image), rtol=1e-4, atol=1e-5)


def test_embed_normalises_by_mean_and_std():
    plain = build(mean=(0.0,) * 3, std=(1.0,) * 3)
    normal = build(mean=(0.1, 0.2, 0.3), std=(0.2, 0.3, 0.4))
    normal.load_state_dict(plain.state_dict())
    patches, _ = glimpse()
    shape = (3, 1, 1)
    given = (patches - torch.tensor([0.1, 0.2, 0.3]).view(shape)) / torch.tensor(
        [0.2, 0.3, 0.4]
    ).view(shape)
    torch.testing.assert_close(normal.embed(patches), plain.embed(given))


@pytest.mark.parametrize("layer_scale", [None, 0.5])
def test_blocks_equal_timms_on_the_same_tokens(layer_scale):
    settings = {"embed_dim": 24, "depth": 2, "num_heads": 3, "init_values": layer_scale}
    vit, ours = peer(**settings), build(patch_size=16, layer_scale=layer_scale)
    ours.load_state_dict(vit.state_dict(), strict=False)
    tokens = torch.randn(2, 9, 24)
    torch.testing.assert_close(
        torch.nn.Sequential(*ours.blocks)(tokens), vit.blocks(tokens), rtol=1e-4, atol=1e-5
    )


def test_forward_is_embed_plus_position_then_blocks_then_norm():
    vit = build()
    patches, windows = glimpse()
    state = torch.randn(2, 3, 24)
    tokens = torch.cat([state, vit.embed(patches) + vit.position(windows)], 1)
    expected = vit.norm(vit.blocks[1](vit.blocks[0](tokens)))[:, :3]
    torch.testing.assert_close(vit(patches, windows, state), expected)


def test_order_of_windows_is_irrelevant_and_their_place_is_not():
    vit = build()
    patches, windows = glimpse()
    state = vit.initial_state(2)
    order = torch.tensor([3, 1, 4, 0, 2])
    seen = vit(patches, windows, state)
    torch.testing.assert_close(
        vit(patches[:, order], windows[:, order], state), seen, rtol=0, atol=1e-5
    )
    assert not torch.allclose(vit(patches[:, order], windows, state), seen, atol=1e-4)


def test_images_of_a_batch_do_not_mix():
    vit = build()
    patches, windows = glimpse(B=3)
    whole = vit(patches, windows, vit.initial_state(3))
    alone = vit(patches[1:2], windows[1:2], vit.initial_state(1))
    torch.testing.assert_close(whole[1:2], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "arch",
    [
        "vit_base_patch16_clip_224",
        "vit_base_patch16_rope_224",
        "eva02_tiny_patch14_224",
        "resnet18",
        "swin_tiny_patch4_window7_224",
        "vit_base_r50_s16_224",
        "deit_tiny_distilled_patch16_224",
        "no_such_arch",
    ],
)
def test_other_archs_are_refused_by_name(arch):
    with pytest.raises(ValueError, match=f"backbone.arch.*{arch}"):
        build(arch=arch, width=None, depth=1, heads=None)


def test_similar_archs_are_named():
    with pytest.raises(ValueError, match="similar are vit_small"):
        build(arch="vit_small_patch16_999")


def test_heads_that_do_not_divide_the_width_are_refused_by_name():
    with pytest.raises(ValueError, match=r"backbone\.heads: 5 does not divide the width 24"):
        build(heads=5)


def test_mean_and_std_have_one_value_per_channel():
    with pytest.raises(ValueError, match=r"backbone\.mean.*1 values"):
        build(channels=1, mean=(0.5, 0.5, 0.5))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_xformers_without_a_gpu_is_one_clear_error():
    with pytest.raises(ValueError, match=r"backbone\.attention: xformers .*choose attention=sdpa"):
        build(attention="xformers")


def test_a_kernel_chosen_for_a_gpu_is_left_out_on_the_cpu():
    vit, seen = build(), []
    for kernel in ("sdpa", "xformers"):
        for block in vit.blocks:
            block.attn.kernel = kernel
        seen.append(vit(*glimpse(), vit.initial_state(2)))
    assert torch.equal(*seen)
    assert vit.describe("cpu") == "timm_vit, vit_tiny_patch16_224: attention by SDPA"


@torch.no_grad()
def test_look_sees_what_forward_does_and_compile_compiles_both():
    vit, scene, calls = build(), picture(), []
    windows, state = glimpse()[1], vit.initial_state(2)
    wanted = vit(scene.read(windows), windows, state)
    assert torch.equal(vit.look(scene, windows, state), wanted)

    def backend(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        calls.append(len(graph.graph.nodes))
        return graph

    vit.compile(backend=backend)
    torch.testing.assert_close(vit.look(scene, windows, state), wanted)
    assert len(calls) == 1
    torch.testing.assert_close(vit(scene.read(windows), windows, state), wanted)
    assert len(calls) == 1  # the same code
    for same in (copy.deepcopy(vit), pickle.loads(pickle.dumps(vit))):
        same.state_tokens.data += 1
        assert not torch.allclose(same.look(scene, windows, same.initial_state(2)), wanted)
    assert len(calls) == 1  # not compiled
    torch.testing.assert_close(vit.look(scene, windows, state), wanted)


def test_positions_keep_float32_under_autocast_until_the_blocks():
    """At zoom 8 neighbours differ by less than bfloat16 rounds either them or their sum."""
    vit = build(width=None, heads=None, depth=1)
    patches, windows = glimpse()
    windows[..., 2] = 8
    beside = windows + torch.tensor([2.0**-8, 0, 0])
    entered = []
    vit.blocks[0].register_forward_pre_hook(lambda _, given: entered.append(given[0][:, 3:]))
    with torch.no_grad():
        for reduced in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
                for one in (windows, beside):
                    assert vit.position(one).dtype == torch.float32
                    vit(patches, one, vit.initial_state(2))
    step, reduced_step = entered[1] - entered[0], entered[3] - entered[2]
    assert reduced_step.dtype == torch.float32
    assert (reduced_step - step).norm() < 1e-3 * step.norm()


def test_positions_of_the_mlp_are_scaled_to_one():
    vit = build()
    windows = glimpse()[1]
    scaled = torch.cat([windows[..., :2] * 2 - 1, windows[..., 2:] / 2 - 1], -1).float()
    mlp = vit.position
    wanted = mlp.out(torch.nn.functional.gelu(mlp.hidden(scaled)))
    assert torch.equal(mlp(windows), wanted)


def test_sizes_follow_the_settings():
    vit = build(width=32, depth=3, heads=4, layer_scale=0.1, state_tokens=5, drop_path=0.2)
    assert (vit.width, vit.num_state_tokens, len(vit.blocks)) == (32, 5, 3)
    assert all(block.attn.num_heads == 4 for block in vit.blocks)
    assert all((block.ls1.gamma == 0.1).all() for block in vit.blocks)
    assert [block.drop_path1.drop_prob for block in vit.blocks[1:]] == pytest.approx([0.1, 0.2])
    assert vit.initial_state(7).shape == (7, 5, 32)
    patches, windows = glimpse()
    assert vit(patches, windows, vit.initial_state(2)).shape == (2, 5, 32)
    assert vit.no_weight_decay() <= dict(vit.named_parameters()).keys()


@pytest.mark.parametrize("init", ["timm", "xavier"])
def test_images_start_with_different_features(init):
    vit = build(init=init)
    patches, windows = glimpse(B=4)
    features = vit(patches, windows, vit.initial_state(4))[:, 0]
    assert features.std(0).max() > 1e-4


def test_bfloat16_gives_finite_gradients_close_to_float32():
    vit = build(layer_scale=None, init="xavier")
    patches, windows = glimpse()

    def gradients(reduced: bool) -> torch.Tensor:
        vit.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            seen = vit(patches, windows, vit.initial_state(2))
        seen.float()[:, 0, :5].square().sum().backward()
        return torch.cat([p.grad.flatten() for p in vit.parameters() if p.grad is not None])

    full, reduced = gradients(False), gradients(True)
    assert reduced.isfinite().all()
    assert torch.nn.functional.cosine_similarity(full, reduced, dim=0) > 0.999
