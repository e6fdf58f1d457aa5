"""Laws of the choice of an attention kernel, with stand-ins for xformers and without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fovea.backbone.choice import MARGIN, Choice, Heads, choose, compare

STALE = """
import logging
logging.getLogger("xformers").warning("WARNING[XFORMERS]: xFormers can't load C++ extensions.")
"""
RAISES = """
def memory_efficient_attention(q, k, v, p=0.0):
    raise NotImplementedError("No operator found\\n for these inputs")
"""
UNIMPORTABLE = "raise OSError('libcudart.so.9: cannot open shared object file')"
COMPUTES = """
import time
import torch.nn.functional as F
def memory_efficient_attention(q, k, v, p=0.0):
    if q.shape[1] > 8:
        {longer}
    q, k, v = (one.transpose(1, 2) for one in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, dropout_p=p).transpose(1, 2)
"""
SLOW = COMPUTES.format(longer="time.sleep(0.01)")
FAST = COMPUTES.format(longer="return v * 1")
WRONG = "def memory_efficient_attention(q, k, v, p=0.0): return q + k + v"

HEAD = """
import sys
import torch
from fovea.backbone.choice import Choice, Heads, choose
def chosen(setting, device=torch.device("cpu")):
    return choose(setting, Heads(2, 8), (12, 20), device)
def refused():
    try:
        chosen("xformers")
    except ValueError as error:
        return str(error)
"""


def run(folder: Path, init: str, ops: str, code: str) -> None:
    """Run code where a package named xformers, of version 9.9, is installed."""
    package, metadata = folder / "xformers", folder / "xformers-9.9.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text(init)
    (package / "ops.py").write_text(ops)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: xformers\nVersion: 9.9\n")
    path = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
    command = [sys.executable, "-W", "error", "-c", path + HEAD + code]
    blind = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=blind)
    assert done.returncode == 0, done.stderr
    assert not done.stderr  # of importing it, too


def test_a_wheel_for_another_torch_is_found_out_and_named(tmp_path: Path) -> None:
    code = """
assert chosen("auto", None) == Choice("sdpa", "xformers needs a CUDA device, and torch finds none")
assert chosen("sdpa") == Choice("sdpa")
assert "xformers" not in sys.modules
problem = f"xformers 9.9 does not run with torch {torch.__version__}"
reason = "(NotImplementedError: No operator found for these inputs)"
assert chosen("auto") == Choice("sdpa", f"{problem} {reason}")
advice = "install a wheel of xformers that was built for this torch, or choose attention=sdpa"
assert refused() == f"backbone.attention: {problem} {reason}; {advice}"
assert "xformers" in sys.modules
"""
    run(tmp_path, STALE, RAISES, code)


def test_what_cannot_be_imported_or_computes_something_else_does_not_run(tmp_path: Path) -> None:
    code = """
import fovea
model = fovea.build_model("vitq8_foveal")  # on the CPU
assert model.backbone.describe("cpu").endswith("attention by SDPA")
assert "xformers" not in sys.modules
assert "(OSError: libcudart.so.9: cannot open shared object file)" in refused()
assert chosen("auto").kernel == "sdpa"
"""
    (tmp_path / "wrong").mkdir()
    run(tmp_path, UNIMPORTABLE, "", code)
    run(tmp_path / "wrong", "", WRONG, 'assert "does not run with torch" in refused()')


def test_auto_takes_xformers_where_it_is_fast_and_sdpa_where_it_is_slow(tmp_path: Path) -> None:
    code = """
with torch.inference_mode():
    choice = chosen("auto")
assert choice.kernel == {kernel!r}, choice
assert " at 12 tokens, " in choice.why and choice.why.endswith(" at 20 tokens of SDPA's time")
assert chosen("auto") == choice  # measured once
assert chosen("xformers") == Choice("xformers")
"""
    for name, ops, kernel in (("fast", FAST, "xformers"), ("slow", SLOW, "sdpa")):
        (tmp_path / name).mkdir()
        run(tmp_path / name, STALE, ops, code.format(kernel=kernel))


def test_xformers_is_taken_up_to_the_margin_at_every_length() -> None:
    def timed(*ratios: float) -> str:
        return compare(
            {i: {"sdpa": 2.0, "xformers": 2 * one} for i, one in enumerate(ratios)}
        ).kernel

    assert timed(0.5, 1 + 0.9 * MARGIN) == "xformers"
    assert timed(0.5, 1 + 1.1 * MARGIN) == "sdpa"


def test_what_is_taken_is_told_with_the_reason() -> None:
    cuda = torch.device("cuda")
    assert Choice("sdpa", "it is so").on(cuda) == "attention by SDPA: it is so"
    assert Choice("xformers").on(cuda) == "attention by xformers"
    assert Choice("xformers", "it is so").on(torch.device("cpu")) == "attention by SDPA"


def test_without_a_gpu_xformers_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^backbone\.attention: xformers .*, or choose attention=s"
    ):
        choose("xformers", Heads(2, 8), (), None)
