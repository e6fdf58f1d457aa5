"""Stage 3: train the gaze policy, all else frozen. Paper, section 3.3."""

import torch
from torch import Tensor

from fovea.draws import draw
from fovea.interfaces import Loss, Scene
from fovea.policy.grpo import advantages, discounted_returns
from fovea.recipe import PolicyConfig
from fovea.stages.stage import Stage
from fovea.trained import GLIMPSE, Trained


class Policy(Stage):
    """Trains the policy by GRPO; the reward of a glimpse is the probability of the true class.

    Each batch of traces is used for one step, so the policy that is improved is the one that drew
    them and no ratio has to be clipped (our choice).
    """

    needs_labels = True

    def __init__(self, config: PolicyConfig, trained: Trained):
        super().__init__()
        if trained.heads is None:
            raise ValueError("the policy stage needs a trained probe to start from")
        self.config = config
        self.trained = trained.with_policy(config.policy)
        trained.heads.requires_grad_(False).eval()
        trained.model.requires_grad_(False).eval()
        self.policy = self.trained.model.policy
        self.finest_zoom = self.trained.model.finest_zoom

    def forward(
        self, scene: Scene, labels: Tensor, progress: float, generator: torch.Generator
    ) -> Loss:
        """Compute the policy-gradient loss of G traces of T glimpses for each image."""
        self.policy.anneal(progress)
        log_probabilities, rewards = self._traces(scene, labels, generator)
        returns = discounted_returns(rewards, self.config.discount)
        loss = -(advantages(returns) * log_probabilities).mean()
        metrics = {
            "reward_first": rewards[..., 0].mean(),
            "reward_last": rewards[..., -1].mean(),
            "reward": rewards.mean(),
            "return_std": returns.std(1).mean(),
        }
        return Loss(loss, metrics)

    def result(self) -> Trained:
        """Return the model with the trained policy."""
        self.trained.model.eval()
        return self.trained

    def _traces(
        self, scene: Scene, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Look around: log-probabilities and rewards of each glimpse, both [B, G, T]."""
        B, G = len(scene), self.config.traces
        model, heads = self.trained.model, self.trained.heads
        assert heads is not None
        truth = labels.repeat_interleave(G)[:, None]
        policy, state = self.policy.begin(scene), model.initial_state(B * G)
        log_probabilities, rewards = [], []
        for _ in range(self.config.glimpses):
            distribution = policy(state)
            gaze = draw(distribution, generator)
            policy.observe(gaze)
            log_probabilities.append(distribution.log_prob(gaze))
            with torch.no_grad():
                state = model.glimpse(scene, gaze, state)
                confidence = heads[GLIMPSE](state).float().softmax(-1)
            rewards.append(confidence.gather(1, truth)[:, 0])
        shape = (B, G, -1)
        return torch.stack(log_probabilities, 1).view(shape), torch.stack(rewards, 1).view(shape)
