"""Normal images of another source: their distance from the train normals, its causes, its cost, and the remedy.

    python -m benchmarks.shift --data FOLDER/chest_xray_224 --run RUN [--other DATA RUN]

RUN is a trained model of the data set; its held-out train normals are laid beside the test normals.

- *separable*: how well each kind of number tells the two groups apart (cross-validated logistic regression).
- *matched*: a trait is taken from one group to the other, by one change for all images, and the shift measured again.
- *places*: where in the image the anomaly map is higher than it is for held-out train normals.
- *threshold*: the promised false positive rate, and the real one.
- *remedy*: a part of the test normals recalibrates (``aeflow.training.recalibrate.refit``), the rest, of other
  patients, is measured, over many draws. Three rules are compared, and chosen by held-out train normals alone, as they
  are and captured again (``data.augment.recapture``): the section *choice*, for the data set of --other, too.

No abnormal image and no test image has a part in that choice. Writes benchmarks/results/shift.json, and pictures to
docs/images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aeflow.reporting.style import save_png
from aeflow.runtime.process import prepare
from benchmarks.common import write_results
from benchmarks.options import Parser
from benchmarks.shift import plots
from benchmarks.shift.study import choice_on, measure


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results and the pictures."""
    parser = Parser("shift", __doc__)
    parser.share("--data", help="one data set", required=True)
    parser.share("--run", required=True)
    parser.share("--out", "--images")
    parser.add_argument("--other", type=Path, nargs=2, metavar=("DATA", "RUN"), help="choose the rule on it, too")
    options = parser.parse_args(arguments)
    prepare()
    results, scores = measure(options.data, options.run)
    if options.other:
        data, run = options.other
        results["choice"][data.name] = choice_on(data, run)
    write_results(options.out / "shift.json", results)
    options.images.mkdir(parents=True, exist_ok=True)
    for name, figure in plots.figures(results, scores).items():
        save_png(figure, options.images / f"shift_{name}.png")


if __name__ == "__main__":
    main()
