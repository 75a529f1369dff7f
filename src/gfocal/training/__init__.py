"""A training run: from a detector and data to model files, resumable after every step.

In reading order:

    step.py          one training step: start reading here
    epoch.py         one epoch: a step for every batch
    loop.py          a run: prepare, resume; then train, evaluate and save, epoch by epoch
    preparation.py   parts of a run before its first step
    settings.py      settings of a run that belong to no other part
    pace.py          the time left; how often to evaluate
    time_plan.py     the number of steps of a run that ends at a time
    watching.py      what a run shows of itself while it trains
    teaching.py      a teacher beside the network, whose edges it learns
    norm_statistics.py  BatchNorm statistics for weights that come without
    optim.py         optimizers and the learning rate over a run
    ema.py           exponential moving average of the weights
    distributed.py   devices, precision, processes, gradient accumulation; the only module that imports accelerate
    joining.py       how processes find each other, also after restarts
    environment.py   deterministic operations, memory that is kept, the lock on the run directory
    checkpoints.py   the state of a run: saved, loaded, and when
    stopping.py      early stopping, signals, and failures put into words
    metrics_log.py   metrics.csv
    trackers.py      TensorBoard, Weights & Biases, MLflow
"""
