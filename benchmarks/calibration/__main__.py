"""Calibration study: do p-values, probabilities and verdicts hold on images that no training saw?

    python -m benchmarks.calibration --data FOLDER --runs RUNS

FOLDER holds `chest_xray_224` and `lgg_mri_central` in aeflow's layout. A share of the train normals, whole patients, is
set aside as *fresh* before any training; the models in RUNS never see them, and are trained where they are missing:
`SET-default`, and of the chest set `SET-lungs` (in the lungs, for diffuse disease) and `SET-gmm-K`, the same with K
labelled images. Seed 0.

- *p_values*: of fresh train normals, uniform by the law, and of test normals. Two-sample Kolmogorov-Smirnov test of
  their scores against the held-out ones that p-values come from.
- *posterior*: expected calibration error of `p_abnormal` on the test split, as it comes and for the right share.
- *decision*: net benefit of acting on it, beside acting on all and on none.
- *kinds*: sensitivity and AUROC for each kind of abnormality.

Nothing is chosen here. Writes benchmarks/results/calibration.json, and pictures to docs/images.
"""

from __future__ import annotations

from collections.abc import Sequence

from aeflow.reporting.style import save_png
from aeflow.runtime.process import prepare
from benchmarks.calibration import plots
from benchmarks.calibration.study import measure
from benchmarks.common import write_results
from benchmarks.options import Parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results and the pictures."""
    parser = Parser("calibration", __doc__)
    parser.share("--data", "--runs", required=True)
    parser.share("--out", "--images")
    options = parser.parse_args(arguments)
    prepare()
    results = measure(options.data, options.runs)
    write_results(options.out / "calibration.json", results)
    options.images.mkdir(parents=True, exist_ok=True)
    for name, figure in plots.figures(results).items():
        save_png(figure, options.images / f"calibration_{name}.png")


if __name__ == "__main__":
    main()
