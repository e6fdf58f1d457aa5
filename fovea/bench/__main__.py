"""Run ``python -m fovea.bench``, unless something that fovea needs is not installed."""

import sys
from importlib.util import find_spec

NEEDED = {
    **{name: name for name in ("fvcore", "iopath", "matplotlib", "numpy", "omegaconf", "pluggy")},
    **{name: name for name in ("pydantic", "safetensors", "timm", "torch", "torchvision", "tqdm")},
    "pillow": "PIL",
    "pyyaml": "yaml",
}
"""What fovea depends on: the module of each distribution."""


def main() -> int:
    """Run the command; return its exit code."""
    missing = [name for name, module in sorted(NEEDED.items()) if find_spec(module) is None]
    if missing:
        print(f"fovea: not installed: pip install {' '.join(missing)}", file=sys.stderr)
        return 2
    from fovea.bench.command import main  # needs what may be missing

    return main()


if __name__ == "__main__":
    sys.exit(main())
