"""Exports: what comes back is what was trained, and nothing else is taken for it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from faults.trainings import TINY

import fovea
from fovea import cli
from fovea.engine.checkpoint import DamagedFile
from fovea.engine.run import train
from fovea.export import export
from fovea.recipe import read_recipe
from fovea.trained import GLIMPSE, load_trained
from fovea.weights import CONFIG, TENSORS, read_export, write_export

IMAGES = [np.full((30, 50, 1), 90, np.uint8), np.zeros((28, 28, 1), np.uint8)]
SHORT = [f"{stage}.steps=3" for stage in ("pretrain", "probe", "policy")]


def trained_run(run_dir: Path, *words: str) -> Path:
    threads = torch.get_num_threads()
    train(read_recipe("quickstart", [f"run_dir={run_dir}", *TINY, *SHORT, *words]))
    torch.set_num_threads(threads)
    return run_dir


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory.mktemp("export") / "run")


def checkpoint(run_dir: Path) -> dict[str, torch.Tensor]:
    (file,) = (run_dir / "pretrain").glob("checkpoint-*.pt")
    stage: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["stage"]
    return stage


def below(prefix: str, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): one for name, one in weights.items() if name.startswith(prefix)
    }


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_model_comes_back_with_its_heads_and_classes(run_dir: Path, tmp_path: Path) -> None:
    export(run_dir, str(tmp_path / "out"))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [CONFIG, TENSORS]
    before, after = load_trained(run_dir), fovea.load_trained(tmp_path / "out")
    assert_equal(after.weights(), before.weights())
    assert (after.classes, after.head) == (before.classes, before.head)
    assert after.model.config == before.model.config
    assert not any(module.training for module in (after.model, after.heads))
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    looks = [one.model(IMAGES, 2, g) for one, g in zip((before, after), generators, strict=True)]
    assert torch.equal(looks[0].states, looks[1].states)
    state = looks[1].states[:, -1]
    assert after.heads[GLIMPSE](state).shape == (2, len(after.classes))
    model = fovea.load_model(str(tmp_path / "out"))
    assert_equal(model.state_dict(), before.model.state_dict())


def test_whoever_may_read_the_description_may_read_the_weights(
    run_dir: Path, tmp_path: Path
) -> None:
    export(run_dir, str(tmp_path / "out"))
    modes = {(tmp_path / "out" / name).stat().st_mode for name in (CONFIG, TENSORS)}
    assert len(modes) == 1


@pytest.mark.parametrize(("what", "head"), [("student", "head"), ("teacher", "teacher_head")])
def test_student_and_teacher_come_with_their_projection_heads(
    what: str, head: str, run_dir: Path, tmp_path: Path
) -> None:
    export(run_dir, str(tmp_path / "out"), what=what)
    stage = checkpoint(run_dir)
    exported = fovea.load_trained(tmp_path / "out")
    assert exported.heads is None
    assert_equal(exported.model.backbone.state_dict(), below(f"objective.{what}.", stage))
    assert_equal(dict(exported.projection), below(f"objective.{head}.", stage))
    described = json.loads((tmp_path / "out" / CONFIG).read_text())
    assert described["step"] == 3
    assert described["objective"]["head"]["prototypes"] == 16


def test_the_best_checkpoint_is_kept_and_exported(tmp_path: Path) -> None:
    online = "online={every_epochs: 0.001, images: 64, glimpses: 1, pictures: 0}"
    words = ["probe=null", "policy=null", "pretrain.steps=12", "keep=1", online]
    run_dir = trained_run(tmp_path / "run", *words)
    lines = (run_dir / "pretrain" / "metrics.jsonl").read_text().splitlines()
    scores = [json.loads(line).get("online/knn_glimpses") for line in lines]
    measured = [score for score in scores if score is not None]
    assert len(measured) == 12
    best = measured.index(max(measured)) + 1  # the first of equals
    export(run_dir, str(tmp_path / "best"), what="teacher", best=True)
    assert json.loads((tmp_path / "best" / CONFIG).read_text())["step"] == best
    newest = sorted((run_dir / "pretrain").glob("checkpoint-*.pt"))
    assert [file.name for file in newest] == ["checkpoint-00000012.pt"]


def test_without_measurements_there_is_no_best(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no best\.pt; set 'online'"):
        export(run_dir, str(tmp_path / "out"), what="student", best=True)


def test_student_and_teacher_differ_and_the_teacher_is_what_is_handed_on(
    run_dir: Path, tmp_path: Path
) -> None:
    for what in ("student", "teacher"):
        export(run_dir, str(tmp_path / what), what=what)
    student, teacher = (
        fovea.load_model(tmp_path / what).backbone.state_dict() for what in ("student", "teacher")
    )
    assert any(not torch.equal(student[name], teacher[name]) for name in student)
    assert_equal(teacher, load_trained(run_dir, "pretrain").model.backbone.state_dict())


def test_pretraining_goes_on_elsewhere_with_the_projection_head(
    run_dir: Path, tmp_path: Path
) -> None:
    export(run_dir, str(tmp_path / "student"), what="student")
    still = ["pretrain.optimizer.lr=0", "pretrain.objective.momentum=1", "probe=null"]
    words = [*still, "policy=null", "pretrain.steps=1", f"init={tmp_path / 'student'}"]
    later = checkpoint(trained_run(tmp_path / "later", *words))
    before = checkpoint(run_dir)
    for ours, theirs in (("student", "student"), ("teacher", "student"), ("head", "head"),
                         ("teacher_head", "head")):  # fmt: skip
        now, then = below(f"objective.{ours}.", later), below(f"objective.{theirs}.", before)
        learned = [name for name in then if "running" not in name and "tracked" not in name]
        assert_equal({n: now[n] for n in learned}, {n: then[n] for n in learned})


def test_another_projection_head_is_refused_by_name(run_dir: Path, tmp_path: Path) -> None:
    export(run_dir, str(tmp_path / "student"), what="student")
    words = ["pretrain.objective.head.prototypes=8", f"init={tmp_path / 'student'}"]
    with pytest.raises(ValueError, match=r"pretrain\.objective.*instead of.*--what model"):
        trained_run(tmp_path / "later", *words)


def test_an_export_of_the_model_begins_with_a_fresh_projection_head(
    run_dir: Path, tmp_path: Path
) -> None:
    export(run_dir, str(tmp_path / "model"))
    words = ["pretrain.objective.head.prototypes=8", f"init={tmp_path / 'model'}", "probe=null"]
    trained_run(tmp_path / "later", *words, "policy=null")


COMMANDS = [
    (["nowhere", "out"], "nowhere holds no finished stage"),
    (["nowhere", "out", "--what", "student"], "nowhere: no run"),
    (["{run}", "{run}"], "exists and is not empty"),
    (["{run}", "out", "--what", "teacher", "--stage", "probe"], "only the pretrain stage"),
    (["{run}", "out", "--best"], "--best goes with --what student or teacher"),
    (["{run}", "s3://bucket/out"], "no installed plugin opens s3:// paths"),
]


@pytest.mark.parametrize(("words", "wanted"), COMMANDS)
def test_a_mistake_is_one_line(
    words: list[str],
    wanted: str,
    run_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", *(word.format(run=run_dir) for word in words)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("fovea: ")
    assert wanted in line
    assert not (tmp_path / "out").exists()


def test_the_command_says_how_to_load_what_it_wrote(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    assert cli.main(["export", str(run_dir), str(out), "--stage", "pretrain"]) == 0
    assert f"fovea.load_model('{out}')" in capsys.readouterr().out
    assert fovea.load_trained(out).heads is None
    assert cli.main(["export", str(out), str(tmp_path / "again")]) == 2


def test_what_was_changed_since_it_was_exported_is_refused(run_dir: Path, tmp_path: Path) -> None:
    """The files hold each other's checksums, so that neither can be exchanged alone."""
    for stage in ("pretrain", "probe"):
        export(run_dir, str(tmp_path / stage), stage)
    (tmp_path / "probe" / CONFIG).replace(tmp_path / "pretrain" / CONFIG)
    with pytest.raises(DamagedFile, match=r"model\.safetensors is damaged: its sha256"):
        fovea.load_model(tmp_path / "pretrain")


def test_a_name_of_the_json_that_was_changed_is_noticed(run_dir: Path, tmp_path: Path) -> None:
    export(run_dir, str(tmp_path / "out"))
    file = tmp_path / "out" / CONFIG
    text = file.read_text()
    changed = text.replace(load_trained(run_dir).classes[0], "Something else")
    assert changed != text
    file.write_text(changed)
    with pytest.raises(DamagedFile, match=r"config\.json is damaged"):
        fovea.load_model(tmp_path / "out")
    file.write_text(json.dumps(json.loads(text)))  # laid out otherwise, it says the same
    fovea.load_model(tmp_path / "out")


def test_a_killed_export_leaves_nothing_that_is_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_export({}, {"weight": torch.ones(3)}, str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    write_export({"note": [1, 2.5, None]}, {"weight": torch.ones(3)}, str(tmp_path / "out"))
    description, tensors = read_export(tmp_path / "out")
    assert description["note"] == [1, 2.5, None]
    assert torch.equal(tensors["weight"], torch.ones(3))
    assert [one.name for one in tmp_path.iterdir()] == ["out"]


def test_an_export_of_another_format_is_refused(tmp_path: Path) -> None:
    write_export({}, {"weight": torch.ones(3)}, str(tmp_path / "out"))
    file = tmp_path / "out" / CONFIG
    file.write_text(file.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(DamagedFile, match="has format 9; this version reads format 1"):
        fovea.load_model(tmp_path / "out")


def test_weights_of_another_model_are_refused_by_three_names(run_dir: Path, tmp_path: Path) -> None:
    trained = load_trained(run_dir)
    weights = trained.weights()
    first = list(weights)[:5]
    write_export(
        trained.describe(),
        {name: one for name, one in weights.items() if name not in first},
        str(tmp_path / "out"),
    )
    with pytest.raises(DamagedFile, match=f"it lacks {', '.join(first[:3])} and 2 more"):
        fovea.load_model(tmp_path / "out")
