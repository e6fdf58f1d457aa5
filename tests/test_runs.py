"""``fovea runs``: what a folder tells of its runs, broken ones among them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fovea import runs
from fovea.config import to_yaml
from fovea.recipe import read_recipe
from fovea.runs import list_runs, main


def make(folder: Path, *changes: str, **logged: list[object]) -> Path:
    """Write what a run leaves that has logged these lines in each stage."""
    folder.mkdir(parents=True)
    recipe = read_recipe("smoke", [f"run_dir={folder}", *changes])
    (folder / "config.yaml").write_text(to_yaml(recipe))
    for stage, lines in logged.items():
        (folder / stage).mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / stage / "metrics.jsonl").write_text(text)
        (folder / stage / "length.json").write_text('{"steps": 60, "batch_size": 32}')
    return folder


def finish(folder: Path, *stages: str) -> None:
    for stage in stages:
        (folder / stage).mkdir(exist_ok=True)
        (folder / stage / "trained.pt").write_bytes(b"")


STEP = {"step": 19, "loss": 3.25, "lr": 0.1}


def test_states_follow_from_what_the_folders_hold(tmp_path: Path):
    make(tmp_path / "a new one")
    make(tmp_path / "stopped", pretrain=[STEP])
    make(tmp_path / "failed", pretrain=[STEP, {"step": 23, "failed": "TrainingError: nan"}])
    finish(make(tmp_path / "between stages", pretrain=[STEP]), "pretrain")
    finish(make(tmp_path / "finished", policy=[STEP]), "pretrain", "probe", "policy")
    finish(make(tmp_path / "sweep" / "one", "probe=null", "policy=null"), "pretrain")
    found, problems = list_runs(tmp_path)
    assert not problems
    assert {run.name: (run.state, run.stage, run.step, run.steps) for run in found} == {
        "a new one": ("not begun", "pretrain", 0, None),
        "between stages": ("stopped", "probe", 0, None),
        "failed": ("failed", "pretrain", 23, 60),
        "finished": ("finished", "policy", 20, 60),
        "stopped": ("stopped", "pretrain", 20, 60),
        "sweep/one": ("finished", "pretrain", 0, None),
    }
    reasons = {run.name: run.reason for run in found if run.reason}
    assert reasons == {"failed": "TrainingError: nan"}


HOLD = """
import sys, time
from pathlib import Path
from fovea.engine.lock import alone_in

with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_is_running_while_its_process_lives(tmp_path: Path):
    folder = make(tmp_path / "run", pretrain=[STEP, {"step": 20, "failed": "by a later start"}])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert [run.state for run in list_runs(tmp_path)[0]] == ["running"]
    holder.kill()
    holder.communicate()
    assert [run.state for run in list_runs(tmp_path)[0]] == ["failed"]


def test_best_and_last_numbers(tmp_path: Path):
    online = [{"step": s, "online/knn_vit": v} for s, v in ((9, 0.5), (19, 0.7), (29, 0.6))]
    losses = [{"step": s, "loss": 4.0 - s / 10, "koleo": 1.0} for s in range(30)]
    lines = sorted([*losses, *online], key=lambda line: line["step"])
    folder = make(tmp_path / "run", pretrain=[*lines, {"step": 29, "warning": "beware"}])
    way = {"accuracy": [0.2, 0.4], "spread": [0, 0], "hit_rate": None}
    results = {"gazes": {"random": way}, "vit": 0.75, "knn": {"glimpses": 0.3, "vit": 0.6}}
    (folder / "eval").mkdir()
    (folder / "eval" / "results.json").write_text(json.dumps(results))
    (run,), _ = list_runs(tmp_path)
    assert run.last == {"loss": pytest.approx(1.1), "koleo": 1.0}
    assert run.best == {"online/knn_vit": 0.7}
    assert run.evaluation == {
        "glimpses, random": 0.4, "kNN, glimpses": 0.3, "kNN, vit": 0.6, "ViT mode": 0.75,
    }  # fmt: skip


def test_only_settings_that_differ_are_shown(tmp_path: Path, capsys):
    make(tmp_path / "a")
    make(tmp_path / "b", "seed=3", "pretrain.batch_size=16")
    make(tmp_path / "c", "model.context.name=multizoom", "policy=null")
    assert main([str(tmp_path)]) == 0
    shown = capsys.readouterr().out.partition("they differ in\n")[2].splitlines()
    assert "  seed: 0 (a, c); 3 (b)" in shown
    assert "  pretrain.batch_size: 32 (a, c); 16 (b)" in shown
    assert "  model.context.name: foveal (a, b); multizoom (c)" in shown
    assert "  policy: given (a, b); none (c)" in shown
    assert not [line for line in shown if "run_dir" in line or line.startswith("  policy.")]


def test_json_tells_all_of_it(tmp_path: Path, capsys):
    make(tmp_path / "a", pretrain=[STEP])
    make(tmp_path / "b", "seed=3")
    assert main([str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["differs"] for run in told] == [{"seed": 0}, {"seed": 3}]
    assert told[0]["last"] == {"loss": 3.25, "lr": 0.1}


BROKEN = {
    "no YAML": ("config.yaml", "a: [1"),
    "no text": ("config.yaml", b"\xff\xfe\x00"),
    "a list": ("config.yaml", "- 1"),
    "no stage": ("config.yaml", "name: pretrain\nsteps: 3"),
    "length": ("pretrain/length.json", "{"),
    "length is a list": ("pretrain/length.json", "[]"),
    "environment": ("environment.json", '{"starts": 7}'),
    "results": ("eval/results.json", '{"gazes": {"random": {"accuracy": []}}}'),
    "results are none": ("eval/results.json", "null"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_folder_is_one_sentence_and_hides_no_other(fault: str, tmp_path: Path, capsys):
    make(tmp_path / "good", pretrain=[STEP])
    folder = make(tmp_path / "bad", pretrain=[STEP])
    name, text = BROKEN[fault]
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main([str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "good" in out
    assert "bad" not in out
    assert len(err.splitlines()) == 1
    assert err.startswith(f"fovea: {folder}")


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path):
    folder = make(tmp_path / "run", pretrain=[STEP])
    with (folder / "pretrain" / "metrics.jsonl").open("ab") as file:
        file.write(b'[1]\nnull\n\x00\xff\n{"loss": 1}\n{"step": 20, "online/kn')
    (run,), problems = list_runs(tmp_path)
    assert not problems
    assert (run.step, run.last["loss"]) == (20, 3.25)


def test_runs_within_runs_and_hidden_ones_are_not_listed(tmp_path: Path):
    make(tmp_path / "run" / "random_init")
    finish(make(tmp_path / ".hidden"), "pretrain")
    text = (tmp_path / "run" / "random_init" / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(text)
    assert [run.name for run in list_runs(tmp_path)[0]] == ["run"]
    assert [run.name for run in list_runs(tmp_path / "run")[0]] == ["."]


@pytest.mark.parametrize("name", ["", "missing"])
def test_where_there_is_no_run_it_says_so(name: str, tmp_path: Path, capsys):
    assert main([str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.endswith("there is no run in it (no folder with config.yaml)\n")


def test_names_of_files_are_those_that_the_engine_writes():
    from fovea.engine import environment, log
    from fovea.trained import FILE

    names = (log.METRICS, log.LENGTH, environment.FILE, FILE)
    assert names == (runs.METRICS, runs.LENGTH, runs.ENVIRONMENT, runs.RESULT)


def test_listing_needs_no_torch(tmp_path: Path):
    make(tmp_path / "run", pretrain=[STEP])
    code = "import sys; from fovea.cli import main; main(['runs', sys.argv[1]]);"
    code += "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "pretrain  20/60" in done.stdout
