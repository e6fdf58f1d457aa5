"""The teacher: timm's own features, frozen, and its weights the right ones."""

import pytest
import timm
import torch
from fovea_distill.teacher import Teacher
from safetensors.torch import save_file
from tiny import seeded

TWO_CLASSIFIERS = "deit_tiny_distilled_patch16_224"


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher("test_vit", "random")


def test_features_equal_those_that_timm_gives(teacher):
    images = torch.rand(2, 3, 64, 48, generator=seeded())
    pixels = (images - 0.5) / 0.5  # timm's mean and deviation of this model
    tokens = teacher.model.forward_features(pixels)[:, teacher.model.num_prefix_tokens :]
    found = teacher.features(images)
    assert found.shape == (2, 64, 4, 3)
    assert torch.allclose(found.flatten(2).mT, tokens, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch14_reg4_dinov2"])
def test_architectures_of_dino_give_maps_without_their_other_tokens(name):
    features = Teacher(name, "random").features(torch.rand(1, 3, 112, 112))
    side = 112 // int(name.split("patch")[1][:2])
    assert features.shape == (1, 384, side, side)


def test_grey_images_are_seen_as_colour(teacher):
    grey = torch.rand(2, 1, 32, 32, generator=seeded())
    assert torch.equal(teacher.features(grey), teacher.features(grey.repeat(1, 3, 1, 1)))


def test_it_is_frozen_and_evaluates(teacher):
    assert not teacher.model.training
    assert not any(one.requires_grad for one in teacher.model.parameters())
    images = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert not teacher.features(images).requires_grad


def test_a_random_teacher_is_the_same_in_every_run_and_takes_no_random_numbers():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = Teacher("test_vit", "random").digest()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(6)
    assert torch.equal(one, Teacher("test_vit", "random").digest())


def test_a_file_of_timms_weights_is_loaded_with_or_without_its_classifier(tmp_path, teacher):
    torch.manual_seed(7)
    file = tmp_path / "weights.safetensors"
    for name, classes in (("test_vit", 0), ("test_vit", 10), (TWO_CLASSIFIERS, 10)):
        weights = timm.create_model(name, num_classes=classes).state_dict()
        save_file(weights, file)
        loaded = Teacher(name, str(file))
        assert all(torch.equal(one, weights[key]) for key, one in loaded.model.state_dict().items())
        assert not torch.equal(loaded.digest(), teacher.digest())


def test_weights_that_do_not_fit_are_named(tmp_path):
    file = tmp_path / "weights.safetensors"
    weights = timm.create_model("test_vit").state_dict()
    del weights["norm.bias"]
    weights["more"] = torch.zeros(1)
    save_file(weights, file)
    with pytest.raises(ValueError, match=r"does not fit .*: it lacks norm.bias; unknown .* more"):
        Teacher("test_vit", str(file))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        Teacher("test_vit", str(file))


@pytest.mark.parametrize(
    ("name", "weights", "said"),
    [
        ("vit_smal_patch16_224", "random", "timm has no model .*; similar are vit_small_patch16_"),
        ("resnet18", "random", "objective.teacher: 'resnet18' is no ViT"),
        ("swin_tiny_patch4_window7_224", "random", "'swin_tiny.*' is no ViT"),
        ("test_vit.nope", "timm", "timm cannot make 'test_vit.nope': Invalid pretrained tag"),
        ("test_vit", "weights.pth", "weights.pth is no file; expected timm, random or a .safeten"),
    ],
)
def test_a_teacher_that_cannot_be_had_is_explained(name, weights, said):
    with pytest.raises(ValueError, match=said):
        Teacher(name, weights)


def test_a_view_that_its_patches_do_not_divide_is_refused(teacher):
    with pytest.raises(ValueError, match=r"patches of 16 x 16 pixels, which do not divide .* 40 x"):
        teacher.features(torch.rand(1, 3, 40, 48))
