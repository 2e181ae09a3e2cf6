"""Train a classifier: ``python train.py --config configs/train/demo.yaml``, ``--help`` for everything else."""

from refinecam.cli import run, train

if __name__ == "__main__":
    run(train)
