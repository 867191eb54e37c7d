"""Train on normal images, score new ones, and see which are abnormal.

    python examples/train_and_score.py [DATA] [RUN]

DATA holds train/normal, test/normal and test/abnormal; the bundled chest X-rays by default.
"""

import sys
from pathlib import Path

import aeflow

data = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "sample")
run = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/example")

model = aeflow.train(data, run, overwrite=True)

for name, result in model.score_all(data / "test"):
    if isinstance(result, aeflow.ImageError):
        print(f"refused: {result}")
    elif result.verdict == "abnormal":
        print(f"{name}: score {result.value:.2f}, p = {result.p_value:.3f}")

metrics = model.evaluate(data)
print(f"AUROC {metrics['auroc']['value']:.3f} ({metrics['auroc']['low']:.3f} to {metrics['auroc']['high']:.3f})")
print(f"report: {run / 'report.html'}")
