"""Measure speed: ``python -m fovea.bench extract``, ``inference``, ``train`` or ``gpu``."""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fovea.train import report

_EXTRACT = """\
Build and glimpse times of every patch extractor beside the alternatives (OpenCV, Pillow, torch,
torchvision, kornia), their errors, and from which glimpse at an image on ours is ahead. One thread;
takes about eight minutes and 5 GB of memory.
"""
_INFERENCE = """\
8 glimpses of a ViT-S beside a plain ViT-S as images grow: latency and FLOPs. All cores; takes about
eleven minutes and 12 GB of memory, the most of it for 32 large images at a time.
"""
_TRAIN = """\
Our pretraining step beside a step of multi-crop DINO (lightly's) of the same ViT, from JPEG files
and without them, and what each choice in ours is worth. All cores; takes about ten minutes and
6 GB of memory.
"""
_GPU = """\
Check everything on a GPU against slow references on the CPU, then measure it all in short: tables
and reading, training steps with a profile, inference. Under six minutes on an H100, without a
network. --device cpu --quick rehearses it anywhere.
"""
_EPILOG = """\
Writes a page, a picture and all numbers to a folder. Exit codes: 0 done, 1 with --check a limit was
missed or not measured, 2 the arguments, the device or the photographs are wrong.
"""
_GPU_EPILOG = """\
Writes gpu.md and gpu.json, anew whenever a part ends. Exit codes: 0 done, 1 a part failed, or with
--check a goal was missed or not measured, 2 the arguments or the device are wrong.
"""
_PAGES = Path("docs/benchmarks")  # of a checkout
_SMALLEST, _LARGEST = 64, 16384
_SIDES = {
    "extract": (224, 448, 896, 1792, 3584, 7168),
    "inference": (224, 448, 896, 1792, 3584),
    "train": (1536, 2048),  # 2.4 and 4.2 megapixels
}
_QUICK_SIDES = {"extract": (224, 448), "inference": (224,), "train": (448,)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except (ValueError, OSError) as error:
        return report([str(error)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fovea.bench", description="Measure speed beside the alternatives."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    extract = commands.add_parser(
        "extract", help="extraction of patches", description=_EXTRACT, epilog=_EPILOG
    )
    _add_options(extract, "extract", multiple=1)
    extract.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="cuda: a shorter table, on the GPU"
    )
    extract.set_defaults(run=_extract)
    inference = commands.add_parser(
        "inference", help="a whole model", description=_INFERENCE, epilog=_EPILOG
    )
    _add_options(inference, "inference", multiple=16)
    inference.add_argument(
        "--batches", type=_count, nargs="+", metavar="IMAGES", help="images at a time (1 32)"
    )
    inference.add_argument(
        "--device", choices=["cpu", "cuda"], default="cpu", help="cuda: also compiled, on the GPU"
    )
    inference.set_defaults(run=_inference)
    train = commands.add_parser("train", help="pretraining", description=_TRAIN, epilog=_EPILOG)
    _add_train_options(train)
    gpu = commands.add_parser(
        "gpu", help="all of it on a GPU", description=_GPU, epilog=_GPU_EPILOG
    )
    _add_gpu_options(gpu)
    return parser


def _add_gpu_options(parser: argparse.ArgumentParser) -> None:
    pages = f"({_PAGES} of a checkout, else runs/bench/gpu; of the CPU always the latter)"
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="(cuda)")
    parser.add_argument("--quick", action="store_true", help="everything small; on a CPU, needed")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEG files of your own")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=pages)
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed, too")
    parser.set_defaults(run=_gpu)


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    sides = " ".join(str(side) for side in _SIDES["train"])
    _add_common_options(parser, "train")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: a ViT-S")
    parser.add_argument("--batch", type=_count, metavar="IMAGES", help="images a step")
    parser.add_argument("--workers", type=_count, help="processes that read data (one a core)")
    parser.add_argument(
        "--sizes", type=_side(1), nargs="+", metavar="PX", help=f"sides of photographs ({sides})"
    )
    parser.set_defaults(sides=_SIDES["train"], quick_sides=_QUICK_SIDES["train"], run=_train)


def _add_options(parser: argparse.ArgumentParser, name: str, multiple: int) -> None:
    sides = " ".join(str(side) for side in _SIDES[name])
    parser.add_argument(
        "--sizes", type=_side(multiple), nargs="+", metavar="PX", help=f"image sides ({sides})"
    )
    parser.set_defaults(sides=_SIDES[name], quick_sides=_QUICK_SIDES[name])
    _add_common_options(parser, name)


def _add_common_options(parser: argparse.ArgumentParser, name: str) -> None:
    folder = Path("runs/bench") / name
    parser.add_argument("--rounds", type=_count, help="most turns that a task takes")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="JPEG files of your own")
    parser.add_argument("--out", type=Path, default=folder, metavar="FOLDER", help=f"({folder})")
    parser.add_argument("--check", action="store_true", help="fail when a limit is missed")
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; rough")


def _extract(arguments: argparse.Namespace) -> int:
    if arguments.device == "cuda":
        return _extract_cuda(arguments)
    from fovea.bench.extract import Settings, measure  # torch is imported only now
    from fovea.bench.limits import EXTRACTION, judge
    from fovea.bench.page import save
    from fovea.bench.plots import plot_extraction
    from fovea.bench.report import extraction_facts, extraction_tables
    from fovea.bench.timing import Effort

    quick = arguments.quick
    effort = Effort(
        arguments.rounds or (5 if quick else 24), 3 if quick else 20, 0.05 if quick else 2.0
    )
    settings = Settings(_sides(arguments), effort, 3 if quick else 12, arguments.photos)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = measure(settings)
    verdicts = judge(EXTRACTION, results)
    plot_extraction(results, arguments.out / "extraction.png")
    title = "Extraction of patches beside the alternatives"
    tables, facts = extraction_tables(results), extraction_facts(results)
    print(save(arguments.out, "extraction", title, tables, verdicts, results, facts))
    return _exit_code(arguments.check, [one.holds for one in verdicts])


def _extract_cuda(arguments: argparse.Namespace) -> int:
    from fovea.bench.extract_gpu import gpu_tables, measure_gpu  # torch is imported only now
    from fovea.bench.limits import judge
    from fovea.bench.limits_gpu import EXTRACTION_CUDA
    from fovea.bench.page import save
    from fovea.bench.timing import Effort

    if arguments.sizes:
        raise ValueError("--device cuda: --sizes is for the CPU")
    effort = Effort(arguments.rounds or (5 if arguments.quick else 100), 3, 8.0)
    results = measure_gpu(effort, arguments.photos)
    verdicts = judge(EXTRACTION_CUDA, results)
    arguments.out.mkdir(parents=True, exist_ok=True)
    title = "Extraction of patches on a GPU"
    facts = {"photographs": ", ".join(results.photos)}
    tables = gpu_tables(results)
    print(save(arguments.out, "extraction_cuda", title, tables, verdicts, results, facts))
    return _exit_code(arguments.check, [one.holds for one in verdicts])


def _inference(arguments: argparse.Namespace) -> int:
    if arguments.device == "cuda":
        return _inference_cuda(arguments)
    from fovea.bench.inference import Settings, measure  # torch is imported only now
    from fovea.bench.inference_report import inference_tables
    from fovea.bench.limits import INFERENCE, judge
    from fovea.bench.page import save
    from fovea.bench.plots import plot_inference
    from fovea.bench.timing import Effort

    quick = arguments.quick
    effort = Effort(arguments.rounds or (3 if quick else 24), 3, 0.5 if quick else 12.0)
    batches = tuple(arguments.batches or ((1,) if quick else (1, 32)))
    settings = Settings(_sides(arguments), batches, effort, arguments.photos)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = measure(settings)
    verdicts = judge(INFERENCE, results)
    plot_inference(results, arguments.out / "inference.png")
    title = "Inference beside a plain ViT"
    tables, facts = inference_tables(results), {"photographs": ", ".join(results.photos)}
    print(save(arguments.out, "inference", title, tables, verdicts, results, facts))
    return _exit_code(arguments.check, [one.holds for one in verdicts])


def _inference_cuda(arguments: argparse.Namespace) -> int:
    from fovea.bench.inference_gpu import gpu_inference_tables, measure_gpu, settings
    from fovea.bench.limits import judge
    from fovea.bench.limits_gpu import INFERENCE_CUDA
    from fovea.bench.page import save
    from fovea.bench.timing import Effort

    if arguments.sizes or arguments.batches:
        raise ValueError("--device cuda: --sizes and --batches are for the CPU")
    quick = arguments.quick
    effort = Effort(arguments.rounds or (3 if quick else 50), 3, 0.5 if quick else 8.0)
    results = measure_gpu(settings("cuda", quick, effort), arguments.photos)
    verdicts = judge(INFERENCE_CUDA, results)
    arguments.out.mkdir(parents=True, exist_ok=True)
    title, facts = "Inference on a GPU", {"photographs": ", ".join(results.photos)}
    tables = gpu_inference_tables(results)
    print(save(arguments.out, "inference_cuda", title, tables, verdicts, results, facts))
    return _exit_code(arguments.check, [one.holds for one in verdicts])


def _gpu(arguments: argparse.Namespace) -> int:
    from fovea.bench.gpu import check_and_measure  # torch is imported only now

    if arguments.device == "cpu" and not arguments.quick:
        raise ValueError("--device cpu rehearses what a GPU is for: add --quick")
    is_page = arguments.device == "cuda" and not arguments.quick and _PAGES.is_dir()
    out = arguments.out or (_PAGES if is_page else Path("runs/bench/gpu"))
    run = check_and_measure(arguments.device, arguments.quick, arguments.photos, out)
    missed = [one.name for one in run.goals if arguments.check and not one.holds]
    print(f"saved in {out}")
    for what, names in (("failed", run.failed), ("goals missed or not measured", missed)):
        if names:
            print(f"{what}: {', '.join(names)}")
    return int(bool(run.failed or missed))


def _train(arguments: argparse.Namespace) -> int:
    from fovea.bench.limits import TRAINING, judge  # torch is imported only now
    from fovea.bench.limits_gpu import TRAINING_CUDA
    from fovea.bench.page import save
    from fovea.bench.plots import plot_training
    from fovea.bench.timing import Effort
    from fovea.bench.train import Settings, measure
    from fovea.bench.train_report import training_facts, training_tables

    quick = arguments.quick
    rounds = arguments.rounds or (1 if quick else 12)
    settings = Settings(
        device=arguments.device,
        batch=arguments.batch or (2 if quick else None),
        workers=arguments.workers or os.cpu_count() or 1,
        sides=_sides(arguments),
        effort=Effort(rounds, min(rounds, 5), 6.0),
        rounds=min(rounds, 3),
        steps=1 if quick else 4,
        photos=arguments.photos,
        quick=quick,
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = measure(settings)
    verdicts = judge(TRAINING_CUDA if arguments.device == "cuda" else TRAINING, results)
    name = "training_cuda" if arguments.device == "cuda" else "training"
    plot_training(results, arguments.out / f"{name}.png")
    title = "Training beside multi-crop DINO"
    tables, facts = training_tables(results), training_facts(results)
    print(save(arguments.out, name, title, tables, verdicts, results, facts))
    return _exit_code(arguments.check, [one.holds for one in verdicts])


def _exit_code(check: bool, held: Sequence[bool]) -> int:
    return int(check and not all(held))


def _sides(arguments: argparse.Namespace) -> tuple[int, ...]:
    default = arguments.quick_sides if arguments.quick else arguments.sides
    return tuple(sorted(set(arguments.sizes or default)))


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _side(multiple: int) -> Callable[[str], int]:
    """Read an image side that is a multiple of a number, as a plain ViT's patches need."""
    kind = f"a multiple of {multiple}" if multiple > 1 else "a whole number"

    def side(text: str) -> int:
        if not text.isdecimal() or int(text) % multiple or not _SMALLEST <= int(text) <= _LARGEST:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not {kind} from {_SMALLEST} to {_LARGEST}"
            )
        return int(text)

    return side
