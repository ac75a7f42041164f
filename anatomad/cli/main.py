"""``anatomad``: lists the commands."""

from __future__ import annotations

from collections.abc import Sequence

import anatomad
from anatomad.cli.common import make_parser, say

COMMANDS = {
    "anatomad_convert": "bring a public data set into the layout that the other commands read",
    "anatomad_plan": "look at a data set of healthy scans, decide how to learn from it, and preprocess it",
    "anatomad_train": "train one fold of a planned data set",
    "anatomad_predict": "write pseudo-healthy images and calibrated anomaly maps of scans",
    "anatomad_evaluate": "measure anomaly maps against lesion labels",
    "anatomad_benchmark": "compare methods over data sets, sequences and seeds in one resumable run",
    "anatomad_demo": "all of the above on a small generated data set",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Print version and commands."""
    make_parser("anatomad", "Lists the commands; each has --help.").parse_args(argv)
    say(f"anatomad {anatomad.__version__}: anomaly maps of brain scans, learnt from healthy ones\n")
    width = max(map(len, COMMANDS))
    for command, purpose in COMMANDS.items():
        say(f"  {command:{width}}  {purpose}")
    say("\nEach command explains itself with --help. First: anatomad_plan -d 001, or anatomad_demo.")
    return 0
