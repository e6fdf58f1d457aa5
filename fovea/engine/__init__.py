"""The training engine: steps, schedules, checkpoints, logs."""
