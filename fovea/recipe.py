"""What a run is: the schema of a config file, from the model to the evaluation. Torch-free."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fovea.config import (
    AUTO,
    Auto,
    Component,
    ConfigError,
    Part,
    Section,
    merge,
    parse_overrides,
    read_yaml,
    validate,
)
from fovea.schedule import Schedule
from fovea.shipped import shipped_file, shipped_names
from fovea.suggest import unknown

STAGES = ("pretrain", "probe", "policy")

_PAPERS_LR = Schedule(start=0.002, end=1e-6, warmup=1 / 30)


class ModelConfig(Section):
    """A model: the parts that it is assembled from."""

    name: str | None = Field(None, description="a model card to start from; other keys change it")
    patch_size: int = Field(16, ge=1, description="P, pixels per side of a patch")
    channels: Literal[1, 3] = Field(3, description="C, 1 for grey and 3 for colour images")
    extractor: Annotated[Component, Part("patch_extractor")] = Field(description="reads patches")
    context: Annotated[Component, Part("context_builder")] = Field(
        description="windows of a glimpse"
    )
    vit_context: Annotated[Component, Part("context_builder")] = Field(
        description="windows of the ViT mode, which sees the whole image at once"
    )
    backbone: Annotated[Component, Part("backbone")] = Field(description="the transformer")
    policy: Annotated[Component, Part("gaze_policy")] = Field(
        description="where to look before a policy was trained"
    )


class OptimizerConfig(Section):
    """AdamW and its schedules. The defaults are the paper's for a batch of 1024."""

    lr: Schedule = Field(_PAPERS_LR, description="learning rate; scale it with the batch size")
    weight_decay: Schedule = Field(
        Schedule(start=0.04, end=0.4), description="not for biases, norms and state tokens"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's averages")
    clip: float = Field(3.0, gt=0, description="greatest norm of each part's gradient")


class PretrainOptimizerConfig(OptimizerConfig):
    """AdamW for a backbone: parts of it may learn more slowly, as in DINOv2."""

    lr: Schedule | Auto = Field(  # type: ignore[assignment]  # a schedule once a run has begun
        _PAPERS_LR, description="learning rate; auto: by the batch size"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the learning rate from each block to the one before"
    )
    patch_embed_lr: float = Field(
        1.0, gt=0, description="factor on the learning rate of the patch embedding"
    )


class StageConfig(Section):
    """What all stages have."""

    batch_size: int = Field(ge=2, description="images per optimiser step")
    epochs: float | None = Field(None, gt=0, description="length in passes over the data")
    steps: int | None = Field(None, ge=1, description="length in optimiser steps")
    scheduled_epochs: float | None = Field(
        None, gt=0, description="length that the schedules are made for, where it is longer"
    )
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="AdamW")

    @model_validator(mode="after")
    def _one_length(self) -> "StageConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps, and not both")
        if self.scheduled_epochs is not None and (
            self.epochs is None or self.scheduled_epochs < self.epochs
        ):
            raise ValueError("scheduled_epochs goes with epochs and must not be shorter")
        return self


class PretrainConfig(StageConfig):
    """Stage 1: self-supervised pretraining of the backbone."""

    optimizer: PretrainOptimizerConfig = Field(PretrainOptimizerConfig(), description="AdamW")
    objective: Annotated[Component, Part("ssl_objective")] = Field(description="the loss")
    checkpoint_blocks: Annotated[int, Field(ge=1)] | bool | Auto = Field(
        AUTO,
        description="blocks, from the input on, whose activations are not kept but computed again: "
        "less memory; true: all, false: none, auto: as few as let a step fit on a GPU",
    )
    compile: bool = Field(False, description="compile student and teacher by torch.compile")


class ProbeConfig(StageConfig):
    """Stage 2: task heads on the frozen backbone, one for glimpses and one for ViT mode."""

    head: Annotated[Component, Part("task_head")] = Field(description="the head")
    glimpses: int = Field(8, ge=1, description="S, random glimpses; the head learns from each")


class PolicyConfig(StageConfig):
    """Stage 3: the gaze policy by GRPO, all else frozen."""

    policy: Annotated[Component, Part("gaze_policy")] = Field(description="the policy to train")
    traces: int = Field(8, ge=2, description="G, sampled sequences per image")
    glimpses: int = Field(8, ge=1, description="T, glimpses of a trace")
    discount: float = Field(0.5, ge=0, le=1, description="gamma, weight of the next reward")


class EvaluateConfig(Section):
    """What ``python -m fovea.eval`` measures."""

    split: Literal["val", "test"] = Field("test", description="split to report on")
    batch_size: int = Field(64, ge=1, description="images at a time")
    glimpses: int = Field(8, ge=1, description="S, accuracy is reported at 1..S")
    gaze_seeds: int = Field(3, ge=1, description="repetitions of whatever draws gazes")
    neighbours: int = Field(20, ge=1, description="k of the kNN classifier")
    enlarge: tuple[int, ...] = Field(
        (1, 2, 4, 8),
        description="factors by which images are enlarged to test for their size; [] for no such "
        "test, as of slides, which are not in memory",
    )
    enlarge_images: int = Field(500, ge=1, description="images of that test, from the first on")
    random_init: bool = Field(
        False, description="also probe the same network at random initialisation"
    )
    pictures: int = Field(6, ge=0, description="images whose gaze paths are drawn")


class OnlineConfig(Section):
    """What is measured beside training, on a copy of the model; the result is not affected.

    In pretraining: images of the val split are classified by those of the train split, by their
    nearest neighbours and by a linear probe in closed form, after each glimpse and in ViT mode. In
    the policy stage: where the policy looks is drawn.
    """

    every_epochs: float = Field(1.0, gt=0, description="passes over the data between measurements")
    images: int = Field(2000, ge=1, description="images of each split, drawn once")
    batch_size: int = Field(64, ge=1, description="images at a time")
    glimpses: int = Field(8, ge=1, description="S, accuracy is measured at 1..S")
    neighbours: int = Field(20, ge=1, description="k of the kNN classifier")
    pictures: int = Field(4, ge=0, description="images that are drawn each time; 0: no pictures")


class Recipe(Section):
    """A whole run, as a config file describes it."""

    run_dir: str = Field(description="folder for everything that the run makes")
    seed: int = Field(0, ge=0, lt=2**63, description="of weights, data order, views and gazes")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: cuda if there is one")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the networks; geometry, reading and losses keep theirs"
    )
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="with several processes: ddp, each has all weights; fsdp, they share them out",
    )
    threads: int | None = Field(None, ge=1, description="CPU threads; default: torch's choice")
    workers: int = Field(0, ge=0, description="processes that read data")
    init: str | None = Field(
        None, description="run_dir whose weights to start from, or 'random' for none"
    )
    log_every: int = Field(10, ge=1, description="steps between lines of the log")
    checkpoint_every: int = Field(200, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints that are kept per stage")
    on_save_error: Literal["stop", "continue"] = Field(
        "stop", description="when a checkpoint cannot be written, e.g. on a full disk"
    )
    data_timeout: float = Field(
        600, gt=0, description="seconds to wait for a batch of the workers before training stops"
    )
    max_bad_images: int = Field(
        1000, ge=0, description="unreadable images after which training stops"
    )
    loggers: Annotated[tuple[Component, ...], Part("logger")] = Field(
        (), description="where the run is shown beside its own files"
    )
    online: OnlineConfig | None = Field(None, description="measurements beside training")
    model: ModelConfig = Field(description="the model")
    data: Annotated[Component, Part("data_set")] = Field(description="the images")
    pretrain: PretrainConfig | None = Field(None, description="stage 1")
    probe: ProbeConfig | None = Field(None, description="stage 2")
    policy: PolicyConfig | None = Field(None, description="stage 3")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), description="measurements after training")

    @model_validator(mode="after")
    def _stages_in_reach(self) -> "Recipe":
        stages = self.stages()
        if not stages:
            raise ValueError(f"no stage to run; give at least one of {', '.join(STAGES)}")
        if stages[0] != "pretrain" and self.init is None:
            raise ValueError(f"{stages[0]} starts from trained weights; set init to their run_dir")
        if stages[0] == "policy" and self.init == "random":
            raise ValueError("policy needs a trained probe; set init to its run_dir")
        if stages == ["pretrain", "policy"]:
            raise ValueError("policy needs the probe stage before it")
        return self

    def stages(self) -> list[str]:
        """List the stages of this run, in their order."""
        return [stage for stage in STAGES if getattr(self, stage) is not None]


def read_recipe(config: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a config file (or the name of a shipped one) with ``key=value`` overrides.

    Raises:
        ConfigError: with everything that is wrong, a line each.
    """
    file = _find(config)
    tree = merge(read_yaml(file), parse_overrides(overrides))
    model = tree.get("model")
    if isinstance(model, str):
        model = {"name": model}
    if isinstance(model, dict) and isinstance(model.get("name"), str):
        try:
            tree["model"] = merge(model_tree(model["name"]), model)
        except ConfigError as unknown:
            raise ConfigError([*unknown.lines, *_mistakes_elsewhere(tree)]) from None
    return validate(Recipe, tree)


def _mistakes_elsewhere(tree: dict[str, Any]) -> list[str]:
    """Check all but the model, for which any card stands in."""
    try:
        validate(Recipe, {**tree, "model": model_tree(shipped_names("model_zoo")[0])})
    except ConfigError as error:
        return error.lines
    return []


def model_tree(name: str) -> dict[str, Any]:
    """Return the model section of a model card.

    Raises:
        ConfigError: there is no such card; names those that there are.
    """
    if name not in shipped_names("model_zoo"):
        raise ConfigError([f"model.name: {unknown('model', name, shipped_names('model_zoo'))}"])
    card = read_yaml(shipped_file("model_zoo", name))
    return {"name": name, **card["model"]}


def _find(config: str) -> Path:
    if Path(config).is_file():
        return Path(config)
    if config in shipped_names("configs"):
        return shipped_file("configs", config)
    raise ConfigError(
        [f"{config}: no such file; {unknown('config', config, shipped_names('configs'))}"]
    )
