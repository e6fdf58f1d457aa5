"""Pretraining fits its GPU: how much is kept and how much computed again, by the card's memory.

``auto`` keeps all activations where they fit. Else it computes as little again as lets a step
fit: first blocks, one by one (``checkpoint_blocks``), each at the price of its own forward pass;
then the student, for pieces of the batch (``accumulate``). Neither changes the result beyond
rounding: a run may go on with another choice on another card. On a CPU nothing is computed again.
"""

import copy
import gc
from dataclasses import dataclass
from itertools import chain, product

import torch

from fovea import collective, geometry
from fovea.config import AUTO, Auto, ConfigError, to_tree, validate
from fovea.data.loader import Order
from fovea.decoding import BadImage
from fovea.engine.distributed import agree, say
from fovea.engine.meter import Usage, usage_at
from fovea.engine.out_of_memory import card, explained, gigabytes, remedies
from fovea.images import Array, Unopened
from fovea.interfaces import DataSet
from fovea.recipe import PretrainConfig, Recipe
from fovea.stages.pretrain import Pretrain
from fovea.trained import Trained

_IMAGES = 4  # that are measured
_MARGIN = 1 / 16
"""Share of the free memory left alone, for gaps and what kernels use within. Our choice."""
_GRADIENTS = 1 / 4
"""What the backward pass makes within a block, of what the block keeps; a ViT's makes 16 %."""


@dataclass(frozen=True)
class Plan:
    """What is computed again: some first blocks, and the student where there are several pieces."""

    blocks: int
    pieces: int


@dataclass(frozen=True)
class Needs:
    """What a step of a batch takes, in bytes.

    Attributes:
        standing: weights, gradients and the optimiser's averages.
        plain: a forward pass that keeps everything.
        blocks: one in which all blocks keep their inputs only.
        pieces: one of which two pieces of the batch keep their inputs only.
        count: blocks of the backbone.
    """

    standing: float
    plain: Usage
    blocks: Usage
    pieces: Usage
    count: int

    def of(self, plan: Plan) -> float:
        """Tell the most that is held at once.

        The backward pass begins at the last block. If that is computed again, it is held beside all
        that was kept; if not, it is gone before the first that is. A piece of the largest call of
        the backbone is computed again as a whole.
        """
        share = plan.blocks / max(1, self.count)
        usage = self.plain.towards(self.blocks, share)
        within = (_GRADIENTS + (share == 1)) * self.plain.block
        if plan.pieces == 1:
            return self.standing + max(usage.kept + within, usage.most)
        again = (usage.call + within) / plan.pieces
        return self.standing + max(self.pieces.kept + again, self.pieces.most)

    def plans(self, blocks: bool | int | Auto, pieces: int | Auto, batch: int) -> list[Plan]:
        """List what the settings allow, by what is computed again, least first."""
        fixed = self.count if blocks is True else blocks
        some = range(self.count + 1) if fixed == AUTO else [int(fixed)]
        powers = [1 << power for power in range(batch.bit_length())]
        plans = product(some, powers if pieces == AUTO else [pieces])

        def cost(plan: Plan) -> tuple[float, int]:
            return plan.blocks / max(1, self.count) + (plan.pieces > 1), plan.pieces

        return sorted((Plan(*one) for one in plans), key=cost)


def fitted(
    recipe: Recipe, config: PretrainConfig, trained: Trained, data: DataSet, device: torch.device
) -> PretrainConfig:
    """Put numbers in place of ``auto`` in ``checkpoint_blocks`` and ``accumulate``, and say which.

    A few images are measured on copies. The global random state is another afterwards: seed it, and
    the stage is the same as without. Every process calls this, and all choose alike.

    Args:
        recipe: of the run.
        config: of the stage.
        trained: what the stage starts from.
        data: the train split.
        device: where the stage will be.

    Raises:
        ConfigError: a step does not fit, whatever is computed again.
        TrainingError: not even the few images fit.
    """
    if device.type != "cuda" or AUTO not in (config.checkpoint_blocks, _accumulate(config)):
        return config
    with explained("pretrain", remedies(recipe, "pretrain", config), device):
        needs = measure(recipe, config, trained, data, device)
    gc.collect()  # modules that compute again refer to themselves
    torch.cuda.empty_cache()
    return choose(recipe, config, needs, device)


def choose(
    recipe: Recipe, config: PretrainConfig, needs: Needs, device: torch.device
) -> PretrainConfig:
    """Take the plan that computes least again of those that fit into what is free, and print it.

    Raises:
        ConfigError: none fits.
    """
    share = config.batch_size // collective.world()
    plans = needs.plans(config.checkpoint_blocks, _accumulate(config), share)
    free, _ = torch.cuda.mem_get_info(device)
    least, *sizes = agree(-free, *(round(needs.of(plan)) for plan in plans))
    room = -least * (1 - _MARGIN)
    found = next((pair for pair in zip(plans, sizes, strict=True) if pair[1] <= room), None)
    if found is None:
        raise ConfigError([_too_large(recipe, config, min(sizes), device)])
    plan, size = found
    step = f"a step of {share:,} images takes {gigabytes(size)}, with {card(device)}"
    say(f"memory: {step}: {_words(plan, needs)}")
    return _with(config, plan, needs.count)


def measure(
    recipe: Recipe, config: PretrainConfig, trained: Trained, data: DataSet, device: torch.device
) -> Needs:
    """Measure what a step of this process's share of a batch needs on a device, a CPU or a GPU."""
    count = len(trained.model.backbone.layers())
    batch, reduced = config.batch_size // collective.world(), recipe.precision == "bfloat16"

    def trial(plan: Plan) -> Pretrain:
        changed = _with(config, plan, count).model_copy(update={"compile": False})
        return Pretrain(changed, copy.deepcopy(trained)).to(device)

    def usage(plan: Plan) -> Usage:
        return usage_at(trial(plan), trained.model.extractor, images, batch, reduced)

    stage = trial(Plan(0, 1))
    images = _first_images(recipe, config, stage, data)
    standing = _standing(stage, recipe.parallel)
    del stage
    return Needs(standing, usage(Plan(0, 1)), usage(Plan(count, 1)), usage(Plan(0, 2)), count)


def _standing(stage: Pretrain, parallel: str) -> float:
    """Count the bytes of weights, gradients and the two averages of AdamW, of this process."""
    world = collective.world()
    weights = sum(one.nbytes for one in (*stage.parameters(), *stage.buffers()))
    trained = sum(one.nbytes for one in stage.parameters() if one.requires_grad)
    if parallel == "fsdp" and world > 1:  # beside a whole copy, by which the stage is handed on
        return weights + (weights + 3 * trained) / world
    return weights + (3 + (world > 1)) * trained  # ddp sends gradients from buckets of their own


def _first_images(
    recipe: Recipe, config: PretrainConfig, stage: Pretrain, data: DataSet
) -> list[Array | Unopened]:
    """Read this process's first images of the run, no larger than the stage sees them."""
    side = geometry.needed_side(stage.finest_zoom, recipe.model.patch_size)
    seen = data if side is None else data.reduced(side)
    sizes, steps = (len(data), config.batch_size), len(data) // config.batch_size
    order = Order(*sizes, recipe.seed, 0, steps, collective.rank(), collective.world())
    images: list[Array | Unopened] = []
    for index, epoch, _ in chain.from_iterable(order):
        try:
            images.append(seen.sample(index, epoch).image)
        except BadImage:
            continue  # training will name it
        if len(images) == _IMAGES:
            return images
    if len(images) < 2:
        raise ConfigError(["data: fewer than two images could be read"])
    return images


def _accumulate(config: PretrainConfig) -> int | Auto:
    """Return the pieces of a batch; 1 where the objective knows of none."""
    pieces: int | Auto = to_tree(config.objective).get("accumulate", 1)
    return pieces


def _with(config: PretrainConfig, plan: Plan, count: int) -> PretrainConfig:
    """Write a plan into the settings."""
    tree = to_tree(config)
    tree["checkpoint_blocks"] = plan.blocks > 0 and (plan.blocks == count or plan.blocks)
    if "accumulate" in tree["objective"]:
        tree["objective"]["accumulate"] = plan.pieces
    return validate(PretrainConfig, tree, "pretrain.")


def _words(plan: Plan, needs: Needs) -> str:
    chosen = f"checkpoint_blocks={plan.blocks} of {needs.count}, accumulate={plan.pieces}"
    if plan == Plan(0, 1):
        return f"{chosen}, all activations are kept"
    return f"{chosen}, since to keep all activations would take {gigabytes(needs.of(Plan(0, 1)))}"


def _too_large(recipe: Recipe, config: PretrainConfig, least: float, device: torch.device) -> str:
    step = f"a step of {config.batch_size:,} images takes {gigabytes(least)}"
    changes = ", ".join(remedies(recipe, "pretrain", config))
    return (
        f"pretrain.batch_size: {step}, computing again all that the settings allow, and there are "
        f"{card(device)}; try, in this order: {changes}"
    )
