"""Laws of the logger."""

import json

import fovea


def test_contract(contract):
    contract("logger", "template")


def lines(folder):
    text = (folder / "probe" / "template.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def open_logger(folder, start):
    return fovea.create("logger", "template", folder=folder, stage="probe", start=start, run={})


def test_a_resumed_run_forgets_what_it_does_again(tmp_path):
    logger = open_logger(tmp_path, start=0)
    for step in range(4):
        logger.metrics(step, {"loss": 0.5 * step})
    logger.warning(3, "slow")
    logger.close()
    with (tmp_path / "probe" / "template.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # as a kill leaves it
    open_logger(tmp_path, start=2).close()
    assert lines(tmp_path) == [{"step": 0, "loss": 0.0}, {"step": 1, "loss": 0.5}]
