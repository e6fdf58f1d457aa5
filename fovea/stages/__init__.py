"""The three training stages: pretrain, probe, policy."""
