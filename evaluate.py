"""Score attribution methods: ``python evaluate.py --config configs/evaluate/shapes.yaml``, ``--help`` for the rest."""

from refinecam.cli import evaluate, run

if __name__ == "__main__":
    run(evaluate)
