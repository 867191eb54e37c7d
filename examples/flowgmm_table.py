"""FlowGMM on a table: 20 labels and 380 unlabelled rows against logistic regression on the same 20 labels."""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aeflow import FlowGMM

x, y = load_breast_cancer(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
train, test = order[:400], order[400:]

labels = np.full(400, -1)  # -1 means unlabelled
for kind in (0, 1):
    labels[np.flatnonzero(y[train] == kind)[:10]] = kind
known = labels != -1

model = FlowGMM(random_state=0).fit(x[train], labels)
control = make_pipeline(StandardScaler(), LogisticRegression()).fit(x[train][known], labels[known])

print(f"labels {known.sum()}, unlabelled {(~known).sum()}, held out {len(test)}")
print(f"FlowGMM              accuracy {model.score(x[test], y[test]):.3f}")
print(f"logistic regression  accuracy {control.score(x[test], y[test]):.3f}")

log_p = model.score_samples(x[test])
rows, kinds = model.sample(3, y=1)
print(f"log p(x) of held-out rows: median {np.median(log_p):.1f} nats; the least likely is row {test[log_p.argmin()]}")
print(f"three rows drawn from class 1, mean radius {rows[:, 0].round(1)}, read back as {model.predict(rows)}")
