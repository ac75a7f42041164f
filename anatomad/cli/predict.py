"""``anatomad_predict``: pseudo-healthy images and calibrated anomaly maps of scans."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anatomad.cli.common import add_configuration, add_folders, add_method, as_known, make_parser, run_command, say

if TYPE_CHECKING:
    from anatomad.planner.dataset import Case

BUNDLED = Path(__file__).parents[1] / "predict" / "bundled"

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``anatomad_predict``; returns the exit code (3 when a case could not be read: the others are done)."""
    parser = make_parser(
        "anatomad_predict",
        "Compare scans of any sequence with their pseudo-healthy images. CASE_0000.nii.gz, CASE_0001.nii.gz ... are\n"
        "channels of one case and give one fused result. Finished cases are kept when the command is run again.",
        "anatomad_predict -i scans -o results",
    )
    parser.add_argument(
        "-i", "--input", required=True, type=Path, help="a scan, a folder of scans, or a data set in the raw layout"
    )
    parser.add_argument("-o", "--output", required=True, type=Path, help="folder of the results")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("-d", "--dataset", help="use the model trained on this data set (default: the bundled model)")
    source.add_argument("-m", "--model", type=Path, help="use the model in this folder")
    parser.add_argument("--fold", default="0", help="fold of the model with -d (default: 0)")
    add_configuration(parser)
    add_method(parser)
    parser.add_argument("--each", action="store_true", help="treat every file as a case of its own")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    add_folders(parser)
    return run_command(_predict, parser.parse_args(argv))


def _predict(args: argparse.Namespace) -> int:
    from anatomad.planner.dataset import discover_cases

    folder = _model_folder(args)
    cases = discover_cases(args.input, args.each)
    _keep_apart(cases, args.output)

    from anatomad.baselines.registry import METHODS
    from anatomad.models.device import choose_device
    from anatomad.predict.folder import load_model
    from anatomad.predict.run import predict_cases

    model = load_model(folder, choose_device(args.device), METHODS.values())
    say(f"model: {folder} ({model.plan.dataset}, weights {model.digest[:12]}); cases: {len(cases)}")
    judged = predict_cases(cases, model, args.output)
    for name, warnings in judged.warnings.items():
        for warning in warnings:
            _log.warning("case %s: %s", name, warning)
    failures = {name: as_known(error) for name, error in judged.failures.items()}
    for name, error in failures.items():
        _log.error(
            "case %s could not be judged: %s", name, error, exc_info=judged.failures[name] if args.debug else None
        )
    say(f"results: {args.output}")
    return max((error.exit_code for error in failures.values()), default=0)


def _keep_apart(cases: Sequence[Case], output: Path) -> None:
    """Results of scans must not replace what lies beside them, nor be taken for scans the next time."""
    from anatomad.errors import UsageError

    place = output.resolve()
    if any(path.parent.resolve() == place for case in cases for path in case.channels.values()):
        raise UsageError(f"-o {output}: the scans lie in this folder; name another one for the results")


def _model_folder(args: argparse.Namespace) -> Path:
    from anatomad.errors import UsageError
    from anatomad.planner.dataset import dataset_folder, find_dataset
    from anatomad.planner.plan import read_plan
    from anatomad.planner.splits import parse_fold

    if args.model is not None:
        return Path(args.model)
    if args.dataset is None:
        if args.method is not None or args.configuration is not None:
            raise UsageError("the bundled model has one method and configuration; name your data set with -d 001")
        return BUNDLED
    folder = dataset_folder(find_dataset(args.dataset, args.root), args.work)
    plan = read_plan(folder / "plan.json")
    configuration = plan.configuration(args.configuration).configuration
    return folder / plan.model_name(parse_fold(args.fold, plan.folds), configuration, args.method)
